"""Curves of results: precision over recall, and AP and F1 against the score threshold.

T: IoU thresholds, R: recalls, S: score thresholds, K: classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postnms.data.dataset import Truth
from postnms.evaluation.average_precision import (
    RECALLS,
    ByClass,
    accumulate,
    by_class,
    count_objects,
)
from postnms.evaluation.columns import ResultColumns
from postnms.evaluation.matching import IOU_THRESHOLDS, Matching, match_results
from postnms.evaluation.results import BestF1, Result
from postnms.evaluation.thresholds import best_f1, tally

SHOWN_IOUS = (0.5, 0.75)
"""IoU thresholds of the curves of precision over recall."""
SCORES = np.arange(100) / 100
"""Score thresholds of the other curves: 0, 0.01, ..., 0.99."""


@dataclass(frozen=True)
class Curves:
    """The curves of one row. Without an object in the images there is none, and all are NaN."""

    precision: NDArray[np.float64]
    """(len(SHOWN_IOUS), R) in [0, 1]: COCO's interpolated precision at each of its 101 recalls, the
    mean over the classes that have an object. Its mean over the recalls is AP at this IoU."""
    ap: NDArray[np.float64]
    """(S,) AP in per cent of the detections that score at least the threshold."""
    f1: NDArray[np.float64]
    """(S,) in [0, 1]: 2 TP / (2 TP + FP + FN) at IoU 0.5 of the same detections, with TP, FP and FN
    counted over all classes. 0: there is no detection."""
    best: BestF1 | None
    """The score threshold with the best F1, which may lie between two of the :data:`SCORES`."""

    def to_json(self) -> dict[str, Any]:
        """Return the curves by name, with their axes, as values that JSON holds. NaN is None."""
        curves = {
            f"precision_at_{iou}": line
            for iou, line in zip(SHOWN_IOUS, self.precision, strict=True)
        }
        axes = {"recall": RECALLS, "score": SCORES}
        every = {**axes, **curves, "AP": self.ap, "F1": self.f1}
        return {
            name: [None if np.isnan(value) else round(float(value), 6) for value in line]
            for name, line in every.items()
        }


def curves(truth: Truth, results: Sequence[Result] | ResultColumns) -> Curves:
    """Return the curves of results.

    Matching goes by falling score, so the matches of the detections over a threshold are the same
    whether the others are there or not. Raises ValueError as
    :func:`postnms.evaluation.matching.match_results`.
    """
    matching = match_results(truth, results)
    precision = precision_over_recall(matching)
    objects = matching.objects
    counts = count_objects(objects.label, objects.counted(), matching.num_classes)
    if not counts.any():
        nothing = np.full(len(SCORES), np.nan)
        return Curves(precision, nothing, nothing, None)
    rows = by_class(matching.results.label, matching.num_classes)
    ap = [_ap(matching, rows, counts, score) for score in SCORES]
    f1 = tally(matching).f1(np.array([_count(matching, score) for score in SCORES]))
    return Curves(precision, np.array(ap), f1, best_f1(matching))


def precision_over_recall(matching: Matching) -> NDArray[np.float64]:
    """Return ``precision`` of :class:`Curves` from a matching at all of COCO's IoU thresholds."""
    label, objects = matching.results.label, matching.objects
    counts = count_objects(objects.label, objects.counted(), matching.num_classes)
    if not counts.any():
        return np.full((len(SHOWN_IOUS), len(RECALLS)), np.nan)
    shown = [int(np.argmin(abs(IOU_THRESHOLDS - iou))) for iou in SHOWN_IOUS]
    rows = by_class(label, matching.num_classes)
    precision = accumulate(matching.verdicts[:1], rows, counts[None]).precision[0, shown]
    return precision[:, :, counts > 0].mean(axis=2)


def _ap(matching: Matching, rows: ByClass, objects: NDArray[np.int64], score: float) -> float:
    """Return AP in per cent of the detections that score at least ``score``.

    ``objects`` (K,) is the number of objects of each class.
    """
    # Scores fall, so these detections are the first ones, of all classes and of each class.
    kept = matching.results.label[: _count(matching, score)]
    ends = rows.starts[:-1] + np.bincount(kept, minlength=matching.num_classes)
    precision = accumulate(matching.verdicts[:1], rows, objects[None], ends).precision
    return 100 * float(precision[..., objects > 0].mean())


def _count(matching: Matching, score: float) -> int:
    """Return the number of detections that score at least ``score``: the first ones."""
    return int(np.searchsorted(-matching.results.scores, -score, side="right"))
