"""COCO's figures of results, and the gain of the stage over plain NMS with its interval.

The 12 figures come from faster-coco-eval, whose figures equal those of pycocotools.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from postnms.data.dataset import Truth
from postnms.evaluation.bootstrap import gain_interval, resampled_precisions
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

    Without results, every figure that is defined is 0.
    """
    reference = COCO(_without_masks(truth))
    detected = _as_coco(truth, results)
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


def _as_coco(truth: Truth, results: Sequence[Result]) -> COCO:
    """Return the results as a COCO object.

    They do not go through ``COCO.loadRes``, because it refuses an empty list.
    """
    annotations = [
        {**result, "id": i, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
        for i, result in enumerate(results, 1)
    ]
    categories = truth.content["categories"]
    return COCO({"images": truth.images, "categories": categories, "annotations": annotations})


def _without_masks(truth: Truth) -> dict[str, object]:
    """Return a copy with boxes only, which the evaluator may write to."""
    annotations = [
        {name: value for name, value in entry.items() if name != "segmentation"}
        for entry in truth.annotations
    ]
    return {**truth.content, "annotations": annotations}


def _ignore(*_: object) -> None:
    """Replace the evaluator's printing."""
