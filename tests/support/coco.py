"""Random truths with results, and the figures that pycocotools gives them."""

import contextlib
import copy
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from postnms.data.dataset import Category, Truth
from postnms.evaluation.metrics import FIGURES


def as_truth(content):
    """Return a complete dict in COCO's format as the truth that results are evaluated against."""
    categories = sorted(content["categories"], key=lambda category: category["id"])
    named = tuple(Category(category["id"], category["name"]) for category in categories)
    return Truth(named, content, "test.json")


def scene(seed, images=12, crowds=True):
    """Return a truth and results that are near it, doubled, or wrong.

    The truth has gaps in its ids, crowd regions, and images without an object.
    """
    random = np.random.default_rng(seed)
    content = {
        "images": [
            {"id": 10 * i + 3, "height": 200, "width": 300, "file_name": f"{i}.png"}
            for i in range(images)
        ],
        "categories": [{"id": number, "name": f"c{number}"} for number in (1, 5, 9)],
        "annotations": [],
    }
    results = []
    for image in content["images"][:-2]:
        for _ in range(random.integers(0, 9)):
            category = int(random.choice([1, 5]))
            box = [*random.uniform(0, 150, 2), *random.uniform(5, 120, 2)]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": box,
                    "area": box[2] * box[3] * random.uniform(0.5, 1),
                    "iscrowd": int(crowds and random.uniform() < 0.15),
                }
            )
            for _ in range(random.integers(0, 4)):
                moved = [float(v) for v in np.array(box) + random.normal(0, 4, 4)]
                moved[2:] = [max(side, 1.0) for side in moved[2:]]
                kind = category if random.uniform() < 0.9 else 9
                score = float(random.uniform())
                results.append(
                    {"image_id": image["id"], "category_id": kind, "bbox": moved, "score": score}
                )
    return as_truth(content), results


def pycocotools_metrics(truth, results):
    """Return the twelve figures that pycocotools gives the results, by name, in per cent."""
    return dict(zip(FIGURES, 100 * _evaluated(truth, results).stats, strict=True))


def pycocotools_precision(truth, results):
    """Return pycocotools' precision at each threshold, recall and class, for all sizes of objects.

    It is -1 for a class without objects.
    """
    return _evaluated(truth, results).eval["precision"][:, :, :, 0, -1]


def _evaluated(truth, results):
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = copy.deepcopy(truth.content)
        reference.createIndex()
        evaluator = COCOeval(reference, reference.loadRes(copy.deepcopy(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator
