"""COCO's figures of results, and the gain of the stage over plain NMS with its interval.

The 12 figures come from faster-coco-eval, whose figures equal those of pycocotools.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from postnms.data.dataset import Truth
from postnms.evaluation.bootstrap import gain_interval, resampled_precisions
from postnms.evaluation.numbering import (
    NumberedEntries,
    category_positions,
    image_positions,
    number_entries,
    read_scores,
)
from postnms.evaluation.results import ClassFigures, Evaluation, Figures, Gain, Result
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


@dataclass(frozen=True)
class Measured:
    """What COCO's evaluation says of the results of one row."""

    figures: Figures
    """The 12 figures."""
    classes: tuple[ClassFigures, ...]
    """AP and AP50 of each class, in the order of the truth's categories."""


def coco_metrics(truth: Truth, results: Sequence[Result]) -> Figures:
    """Return the 12 figures of the results, in per cent, as :func:`measure` does."""
    return measure(truth, results).figures


def measure(truth: Truth, results: Sequence[Result]) -> Measured:
    """Return the figures of the results over all classes and of each class.

    The figures do not depend on the ids of images, categories and annotations. Only the order of
    the images breaks ties of scores, see :func:`postnms.evaluation.numbering.image_positions`.
    Results of a category that the truth does not list are left out. Without results, every figure
    that is defined is 0. Raises ValueError for a result of an image that the truth does not list,
    and for a box or a score that is not finite.
    """
    reference, detected = _numbered(truth, results)
    evaluator = COCOeval_faster(reference, detected, "bbox", print_function=_ignore)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    values = np.asarray(evaluator.stats[: len(FIGURES)], np.float64)
    # The evaluator says -1 where a figure is undefined.
    figures = {
        name: None if value < 0 else 100 * float(value)
        for name, value in zip(FIGURES, values, strict=True)
    }
    # The axes are thresholds, recalls, classes, ranges of area (first: all), limits (last: 100).
    precision = np.asarray(evaluator.eval["precision"], np.float64)[:, :, :, 0, -1]
    classes = tuple(
        ClassFigures(category["name"], _mean(precision[:, :, k]), _mean(precision[:1, :, k]))
        for k, category in enumerate(truth.content["categories"])
    )
    return Measured(figures, classes)


def _mean(precision: NDArray[np.float64]) -> float | None:
    """Return a mean precision in per cent. None: the class has no object."""
    return None if (precision < 0).any() else 100 * float(precision.mean())


def evaluate_rows(
    truth: Truth, rows: Mapping[str, Sequence[Result]], *, bootstrap: int = 1000, seed: int = 0
) -> Evaluation:
    """Return the figures of every row, and the gain of ``post_nms`` over ``nms`` if both are there.

    ``bootstrap`` is the number of resamples of the images for the interval of the gain. 0: the gain
    has no interval. ``seed`` is the seed of the resamples.
    """
    measured = {name: measure(truth, results) for name, results in rows.items()}
    figures = {name: row.figures for name, row in measured.items()}
    classes = {name: row.classes for name, row in measured.items()}
    gain = _gain(truth, rows, figures, bootstrap, seed) if POST_NMS_ROW in rows else None
    return Evaluation(figures, gain, classes)


def _gain(
    truth: Truth,
    rows: Mapping[str, Sequence[Result]],
    figures: Mapping[str, Figures],
    bootstrap: int,
    seed: int,
) -> Gain:
    """Return the gain of ``post_nms`` over ``nms``, see :func:`evaluate_rows`."""
    before = figures[NMS_ROW]["AP"]
    after = figures[POST_NMS_ROW]["AP"]
    if before is None or after is None:
        return Gain(None)
    if not bootstrap:
        return Gain(after - before)
    precisions = [
        resampled_precisions(truth, rows[name], bootstrap, seed) for name in (NMS_ROW, POST_NMS_ROW)
    ]
    return Gain(after - before, *gain_interval(*precisions))


def show(figure: float | None, digits: int = 1) -> str:
    """Return a figure as text, ``-`` where it is undefined."""
    return "-" if figure is None else f"{figure:.{digits}f}"


def _numbered(truth: Truth, results: Sequence[Result]) -> tuple[COCO, COCO]:
    """Return truth and results as COCO objects that the evaluator may write to, with ids from 1.

    The evaluator takes id 0 of an annotation for "no match", and it keeps ids of images as doubles,
    which hold no whole number over 2^53 exactly. It also acts on fields of other tasks, if an entry
    has them. So it sees neither the ids of the user's file nor any field that it does not need.
    """
    images = image_positions(truth)
    categories = category_positions(truth)
    annotations = [entry for entry in truth.annotations if entry["category_id"] in categories]
    known = [entry for entry in results if entry["category_id"] in categories]
    frame = {
        "images": [{"id": position + 1} for position in images.values()],
        "categories": [{"id": position + 1} for position in categories.values()],
    }
    reference = _entries(
        number_entries("annotations", annotations, images, categories),
        area=[entry["area"] for entry in annotations],
        iscrowd=[entry["iscrowd"] for entry in annotations],
    )
    found = number_entries("results", known, images, categories)
    # Results do not go through `COCO.loadRes`, because it refuses an empty list.
    detected = _entries(
        found,
        area=found.boxes[:, 2:].prod(axis=1).tolist(),
        iscrowd=[0] * len(known),
        score=read_scores(known).tolist(),
    )
    return COCO({**frame, "annotations": reference}), COCO({**frame, "annotations": detected})


def _entries(numbered: NumberedEntries, **columns: list[Any]) -> list[dict[str, Any]]:
    """Return numbered entries as dicts with ids from 1, and with further columns by name."""
    columns |= {
        "id": list(range(1, len(numbered.image) + 1)),
        "image_id": (numbered.image + 1).tolist(),
        "category_id": (numbered.label + 1).tolist(),
        "bbox": numbered.boxes.tolist(),
    }
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _ignore(*_: object) -> None:
    """Replace the evaluator's printing."""
