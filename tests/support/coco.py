"""Random truths with results, and the figures that pycocotools gives them."""

import contextlib
import copy
import io

import faster_coco_eval
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


def hard_scene(seed, images=9):
    """Return a truth and results that are full of ties and edges.

    Boxes are on a grid and scores have few values, so that scores, IoUs and thresholds are equal
    often. Areas are those at which COCO's ranges end, and one is too large for all of them. One
    image has more detections of a class than count. Category 4 has only crowd regions, 8 only
    results, 6 nothing at all, and results of 77 are of no category of the truth.
    """
    random = np.random.default_rng(seed)
    image_ids = (7 * random.permutation(images) - 20).tolist()
    content = {
        "images": [{"id": number, "height": 400, "width": 400} for number in image_ids],
        "categories": [{"id": number, "name": f"c{number}"} for number in (3, 6, 1, 8, 4)],
        "annotations": [],
    }
    sides = [8, 16, 32, 64, 96, 144]
    results = []
    for image_id in image_ids[:-1]:
        for _ in range(random.integers(0, 12)):
            category = int(random.choice([1, 1, 3, 4]))
            box = [*(8 * random.integers(0, 20, 2)), *random.choice(sides, 2)]
            box = [float(value) for value in box]
            whole = box[2] * box[3]
            areas = [whole, whole, 1024, np.nextafter(1024, 0), 9216, np.nextafter(9216, 1e9), 2e10]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": box,
                    "area": float(random.choice(areas)),
                    "iscrowd": int(category == 4 or random.uniform() < 0.15),
                }
            )
            for _ in range(random.integers(0, 5)):
                moved = (np.array(box) + random.choice([0, 0, 4, 8], 4)).tolist()
                kind = category if random.uniform() < 0.9 else int(random.choice([1, 3, 8, 77]))
                score = float(random.choice([0.25, 0.5, 0.75, random.uniform()]))
                results.append(
                    {"image_id": image_id, "category_id": kind, "bbox": moved, "score": score}
                )
    if results:
        results += [{**results[0], "score": 0.5 + i % 3 / 10} for i in range(105)]
    random.shuffle(results)
    return as_truth(content), results


def pycocotools_metrics(truth, results):
    """Return the twelve figures that pycocotools gives the results, by name, in per cent."""
    return dict(zip(FIGURES, 100 * _evaluated(truth, results).stats, strict=True))


def pycocotools_precision(truth, results):
    """Return pycocotools' precision at each threshold, recall and class, for all sizes of objects.

    It is -1 for a class without objects.
    """
    return _evaluated(truth, results).eval["precision"][:, :, :, 0, -1]


def faster_coco_eval_metrics(truth, results):
    """Return the twelve figures that faster-coco-eval gives the results, by name, in per cent.

    It takes the id 0 of an annotation for "no match" and reads fields of other tasks, so it sees
    ids from 1 and no other field.
    """
    known = {category["id"] for category in truth.content["categories"]}
    found = [entry for entry in results if entry["category_id"] in known]
    detected = [
        {**entry, "id": i, "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
        for i, entry in enumerate(found, 1)
    ]
    content = copy.deepcopy(truth.content)
    evaluator = faster_coco_eval.COCOeval_faster(
        faster_coco_eval.COCO(content),
        faster_coco_eval.COCO({**copy.deepcopy(truth.content), "annotations": detected}),
        "bbox",
        print_function=lambda *_: None,
    )
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return dict(zip(FIGURES, 100 * np.asarray(evaluator.stats[: len(FIGURES)]), strict=True))


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
