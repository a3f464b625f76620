"""COCO metrics of results, and the gain of one row over another with its interval. Figures are in per cent.

The 12 figures are faster-coco-eval's (equal to pycocotools); one that is undefined, such as APS without small
objects, is None.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from postnms.evaluation.bootstrap import gain_interval, resampled_precisions
from postnms.evaluation.results import Result

FIGURES = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL")
"""In the order of COCO's summary."""


def coco_metrics(truth: dict[str, Any], results: Sequence[Result]) -> dict[str, float | None]:
    """The 12 figures of results against a COCO dict. Without results all that is defined is 0."""
    reference = COCO(_without_masks(truth))
    evaluator = COCOeval_faster(reference, _as_coco(truth, results), "bbox", print_function=_silent)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    values = np.asarray(evaluator.stats[: len(FIGURES)], np.float64)
    return {
        name: None if value < 0 else 100 * float(value)
        for name, value in zip(FIGURES, values, strict=True)
    }


def evaluate_rows(
    truth: dict[str, Any],
    rows: Mapping[str, Sequence[Result]],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, float | None]]:
    """The 12 figures of every row; with ``nms`` and ``post_nms``, also the gain in AP of the second over the first.

    ``low`` and ``high`` bound the gain's 95 % interval, by paired bootstrap over the images; None without resamples.
    """
    metrics = {name: coco_metrics(truth, results) for name, results in rows.items()}
    if "post_nms" not in rows:
        return metrics
    before, after = metrics["nms"]["AP"], metrics["post_nms"]["AP"]
    gain = {
        "AP": None if before is None or after is None else after - before,
        "low": None,
        "high": None,
    }
    if bootstrap and gain["AP"] is not None:
        drawn = [
            resampled_precisions(truth, rows[name], bootstrap, seed) for name in ("nms", "post_nms")
        ]
        gain["low"], gain["high"] = gain_interval(*drawn)
    return metrics | {"gain": gain}


def show(figure: float | None, digits: int = 1) -> str:
    """A figure for people: ``-`` where it is undefined."""
    return "-" if figure is None else f"{figure:.{digits}f}"


def _as_coco(truth: dict[str, Any], results: Sequence[Result]) -> COCO:
    """Results as a COCO object; built here since ``loadRes`` refuses an empty list."""
    annotations = [
        {**result, "id": i, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
        for i, result in enumerate(results, 1)
    ]
    return COCO(
        {"images": truth["images"], "categories": truth["categories"], "annotations": annotations}
    )


def _without_masks(truth: dict[str, Any]) -> dict[str, Any]:
    """A copy that the evaluator may write to, boxes only."""
    annotations = [
        {k: v for k, v in entry.items() if k != "segmentation"} for entry in truth["annotations"]
    ]
    return {**truth, "annotations": annotations}


def _silent(*_: object) -> None:
    """In place of printing."""
