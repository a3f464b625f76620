"""COCO's figures of results, and the gains of the stage over plain NMS with their intervals.

The figures come from the one matching that intervals and types of errors come from, too. They equal
those of pycocotools.

T: IoU thresholds, R: recalls, K: classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postnms.data.dataset import Truth
from postnms.evaluation.average_precision import accumulate, by_class, count_objects
from postnms.evaluation.bootstrap import gain_of, resampled_precisions
from postnms.evaluation.columns import ResultColumns
from postnms.evaluation.matching import AREA_RANGES, Matching, match_results
from postnms.evaluation.matching_kernels import RIGHT
from postnms.evaluation.results import BestF1, ClassFigures, Evaluation, Figures, Result
from postnms.evaluation.thresholds import best_f1
from postnms.structures import NMS_ROW

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

_ALL, _SMALL, _MEDIUM, _LARGE = range(len(AREA_RANGES))
_AT_50, _AT_75 = 0, 5
"""Positions in ``IOU_THRESHOLDS``."""


@dataclass(frozen=True)
class Measured:
    """What COCO's evaluation says of the results of one row."""

    figures: Figures
    """The 12 figures."""
    classes: tuple[ClassFigures, ...]
    """AP and AP50 of each class, in the order of the truth's categories."""


def coco_metrics(truth: Truth, results: Sequence[Result] | ResultColumns) -> Figures:
    """Return the 12 figures of the results, in per cent.

    The figures do not depend on the ids of images, categories and annotations. Only the order of
    the images breaks ties of scores, see :func:`postnms.evaluation.numbering.image_positions`.
    Results of a category that the truth does not list are left out. Without results, every figure
    that is defined is 0. Raises ValueError for a result that lacks a field or is of an image that
    the truth does not list, and for a box or a score that is not finite.
    """
    return measure(truth, match_results(truth, results)).figures


def measure(truth: Truth, matching: Matching) -> Measured:
    """Return the figures of a matching over all classes and of each class.

    ``matching`` is that of :func:`postnms.evaluation.matching.match_results` with ``truth``, at all
    of COCO's IoU thresholds.
    """
    objects = matching.objects
    counts = np.array(
        [count_objects(objects.label, objects.counted(name), matching.num_classes)
         for name in AREA_RANGES]
    )  # fmt: skip
    rows = by_class(matching.results.label, matching.num_classes)
    found = accumulate(matching.verdicts, rows, counts)
    precision = found.precision
    values = [
        precision[_ALL],
        precision[_ALL, _AT_50],
        precision[_ALL, _AT_75],
        precision[_SMALL],
        precision[_MEDIUM],
        precision[_LARGE],
        _recall_of_best(matching, counts[_ALL], 1),
        _recall_of_best(matching, counts[_ALL], 10),
        *found.recall,
    ]
    figures = {name: _mean(value) for name, value in zip(FIGURES, values, strict=True)}
    classes = tuple(
        ClassFigures(
            category["name"],
            _mean(precision[_ALL, :, :, k]),
            _mean(precision[_ALL, _AT_50, :, k]),
        )
        for k, category in enumerate(truth.content["categories"])
    )
    return Measured(figures, classes)


def _recall_of_best(
    matching: Matching, objects: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """Return the recall (T, K) of the ``count`` best detections of each image and class.

    ``objects`` (K,) is the number of objects. -1: the class has none.
    """
    best = matching.results.rank < count
    label = matching.results.label[best]
    hits = np.array(
        [
            np.bincount(label[line], minlength=matching.num_classes)
            for line in matching.verdicts[_ALL][:, best] == RIGHT
        ]
    )
    return np.where(objects > 0, hits / np.maximum(objects, 1), -1)


def _mean(values: NDArray[np.float64]) -> float | None:
    """Return the mean of the values that are defined (not -1), in per cent. None: there is none."""
    defined = values[values > -1]
    return 100 * float(defined.mean()) if defined.size else None


def evaluate_rows(
    truth: Truth,
    rows: Mapping[str, Sequence[Result] | ResultColumns],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Return the figures of every row, and the gain of each other row over ``nms``.

    The score threshold with the best F1 of every row is part of them. Without the row ``nms`` there
    are no gains. ``bootstrap`` is the number of resamples of the images for the intervals of the
    gains. 0: they have no interval. ``seed`` is the seed of the resamples.
    """
    figures: dict[str, Figures] = {}
    classes: dict[str, tuple[ClassFigures, ...]] = {}
    thresholds: dict[str, BestF1 | None] = {}
    precisions: dict[str, NDArray[np.float64]] = {}
    for name, results in rows.items():
        # The matching of one row is in memory at a time.
        matching = match_results(truth, results)
        measured = measure(truth, matching)
        figures[name], classes[name] = measured.figures, measured.classes
        thresholds[name] = best_f1(matching)
        if bootstrap and NMS_ROW in rows and len(rows) > 1:
            precisions[name] = resampled_precisions(matching, bootstrap, seed)
    others = [name for name in rows if name != NMS_ROW] if NMS_ROW in rows else []
    aps = {name: (figures[name]["AP"], precisions.get(name)) for name in rows}
    gains = {name: gain_of(aps[NMS_ROW], aps[name]) for name in others}
    return Evaluation(figures, gains, classes, thresholds)


def show(figure: float | None, digits: int = 1) -> str:
    """Return a figure as text, ``-`` where it is undefined."""
    return "-" if figure is None else f"{figure:.{digits}f}"
