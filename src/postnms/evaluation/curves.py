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
    IOU_THRESHOLDS,
    RECALLS,
    ClassMatches,
    average_precisions,
    matches_by_class,
)
from postnms.evaluation.results import Result

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

    @property
    def best(self) -> tuple[float, float]:
        """The score threshold with the best F1, the lowest of equal ones, and that F1 or NaN."""
        at = int(np.argmax(self.f1))
        return float(SCORES[at]), float(self.f1[at])

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


def curves(truth: Truth, results: Sequence[Result]) -> Curves:
    """Return the curves of results.

    Matching goes by falling score, so the matches of the detections over a threshold are the same
    whether the others are there or not. Raises ValueError as
    :func:`postnms.evaluation.matching.match_results`.
    """
    matches = matches_by_class(truth, results)
    if not matches:
        nothing = np.full(len(SCORES), np.nan)
        return Curves(np.full((len(SHOWN_IOUS), len(RECALLS)), np.nan), nothing, nothing)
    rows = [int(np.argmin(abs(IOU_THRESHOLDS - iou))) for iou in SHOWN_IOUS]
    precision = np.mean([_precision(m)[rows] for m in matches], axis=0)
    ap = [100 * float(np.mean([_ap(m, score) for m in matches])) for score in SCORES]
    f1 = [_f1(matches, score) for score in SCORES]
    return Curves(precision, np.array(ap), np.array(f1))


def _precision(matches: ClassMatches) -> NDArray[np.float64]:
    """Return COCO's precision of a class at every IoU threshold and recall, (T, R)."""
    hits = matches.correct.cumsum(axis=1)
    wrong = (matches.counted & ~matches.correct).cumsum(axis=1)
    precision = np.zeros((*hits.shape[:1], len(RECALLS)))
    if not hits.shape[1]:
        return precision
    # COCO adds the spacing of 1, which avoids 0 / 0 as long as nothing has counted.
    falling = np.maximum.accumulate((hits / (hits + wrong + np.spacing(1.0)))[:, ::-1], axis=1)
    for row, best in enumerate(falling[:, ::-1]):
        recall = hits[row] / matches.objects.sum()
        first = np.searchsorted(recall, RECALLS, side="left")
        reached = first < len(recall)
        precision[row, reached] = best[first[reached]]
    return precision


def _count(matches: ClassMatches, score: float) -> int:
    """Return the number of detections that score at least ``score``: the first ones."""
    return int(np.searchsorted(-matches.scores, -score, side="right"))


def _ap(matches: ClassMatches, score: float) -> float:
    """Return AP of a class in [0, 1], of the detections that score at least ``score``."""
    d = _count(matches, score)
    once = np.ones(len(matches.objects), np.int64)
    correct = np.ascontiguousarray(matches.correct[:, :d])
    counted = np.ascontiguousarray(matches.counted[:, :d])
    objects = int(matches.objects.sum())
    return float(
        average_precisions(matches.image[:d], correct, counted, once, objects, RECALLS).mean()
    )


def _f1(matches: Sequence[ClassMatches], score: float) -> float:
    """Return F1 at IoU 0.5 over all classes, of the detections that score at least ``score``."""
    hits = wrong = objects = 0
    for m in matches:
        d = _count(m, score)
        hits += int(m.correct[0, :d].sum())
        wrong += int((m.counted[0, :d] & ~m.correct[0, :d]).sum())
        objects += int(m.objects.sum())
    return 2 * hits / (hits + wrong + objects)
