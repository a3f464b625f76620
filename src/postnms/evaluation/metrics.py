"""COCO's figures of results, and the gain of the stage over plain NMS with its interval.

The 12 figures come from faster-coco-eval, whose figures equal those of pycocotools.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from postnms.data.dataset import Truth
from postnms.evaluation.bootstrap import gain_interval, resampled_precisions
from postnms.evaluation.numbering import check_image_ids, image_positions
from postnms.evaluation.results import Evaluation, Figures, Gain, Result
from postnms.structures import NMS_ROW, POST_NMS_ROW

FIGURES = (
    "AP",
    "AP50",
    "AP75",
    "APS",
    "APM",
    "APL",
    "AR1",
    "AR10",
    "AR100",
    "ARS",
    "ARM",
    "ARL",
)
"""Names of the figures, in the order of COCO's summary."""


def coco_metrics(truth: Truth, results: Sequence[Result]) -> Figures:
    """Return the 12 figures of the results, in per cent.

    The figures do not depend on the ids of images, categories and annotations, except that images
    are visited by rising id. Results of a category that the truth does not list are left out.
    Without results, every figure that is defined is 0. Raises ValueError for a result of an image
    that the truth does not list.
    """
    reference, detected = _numbered(truth, results)
    evaluator = COCOeval_faster(reference, detected, "bbox", print_function=_ignore)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    values = np.asarray(evaluator.stats[: len(FIGURES)], np.float64)
    # The evaluator says -1 where a figure is undefined.
    return {
        name: None if value < 0 else 100 * float(value)
        for name, value in zip(FIGURES, values, strict=True)
    }


def evaluate_rows(
    truth: Truth, rows: Mapping[str, Sequence[Result]], *, bootstrap: int = 1000, seed: int = 0
) -> Evaluation:
    """Return the figures of every row, and the gain of ``post_nms`` over ``nms`` if both are there.

    ``bootstrap`` is the number of resamples of the images for the interval of the gain. 0: the gain
    has no interval. ``seed`` is the seed of the resamples.
    """
    figures = {name: coco_metrics(truth, results) for name, results in rows.items()}
    if POST_NMS_ROW not in rows:
        return Evaluation(figures)
    before = figures[NMS_ROW]["AP"]
    after = figures[POST_NMS_ROW]["AP"]
    if before is None or after is None:
        return Evaluation(figures, Gain(None))
    if not bootstrap:
        return Evaluation(figures, Gain(after - before))
    precisions = [
        resampled_precisions(truth, rows[name], bootstrap, seed) for name in (NMS_ROW, POST_NMS_ROW)
    ]
    return Evaluation(figures, Gain(after - before, *gain_interval(*precisions)))


def show(figure: float | None, digits: int = 1) -> str:
    """Return a figure as text, ``-`` where it is undefined."""
    return "-" if figure is None else f"{figure:.{digits}f}"


def _numbered(truth: Truth, results: Sequence[Result]) -> tuple[COCO, COCO]:
    """Return truth and results as COCO objects that the evaluator may write to, with ids from 1.

    The evaluator takes id 0 of an annotation for "no match", and it keeps ids of images as doubles,
    which hold no whole number over 2^53 exactly. So it never sees the ids of the user's file.
    """
    images = {image_id: i + 1 for image_id, i in image_positions(truth).items()}
    entries = truth.content["categories"]
    categories = {entry["id"]: number for number, entry in enumerate(entries, 1)}

    def number(name: str, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        known = [entry for entry in entries if entry["category_id"] in categories]
        check_image_ids(name, known, images)
        return [
            {
                # The boxes alone are measured, and the evaluator would decode masks.
                **{name: value for name, value in entry.items() if name != "segmentation"},
                "id": i,
                "image_id": images[entry["image_id"]],
                "category_id": categories[entry["category_id"]],
            }
            for i, entry in enumerate(known, 1)
        ]

    frame = {
        "images": [{"id": number} for number in images.values()],
        "categories": [{"id": categories[entry["id"]], "name": entry["name"]} for entry in entries],
    }
    # Results do not go through `COCO.loadRes`, because it refuses an empty list.
    detected = [
        {**entry, "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
        for entry in number("results", results)
    ]
    reference = COCO({**frame, "annotations": number("annotations", truth.annotations)})
    return reference, COCO({**frame, "annotations": detected})


def _ignore(*_: object) -> None:
    """Replace the evaluator's printing."""
