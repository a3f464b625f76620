"""The calibration of scores: whether detections that score 0.8 are right in 80 % of the cases.

Detections are grouped by their scores in bins of equal width. The expected calibration error is
the mean distance between the mean score of a bin and its precision at IoU 0.5, weighted by the
numbers of detections (Guo et al., arXiv 1706.04599, eq. 3; with precision in place of accuracy, as
Küppers et al., arXiv 2004.13546, do for detectors).

d: detections, B: bins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postnms.evaluation.average_precision import count_objects
from postnms.evaluation.matching import Matching

BINS = 10
"""Number of bins of equal width over [0, 1]. A bin includes its lower bound, the last one 1 too."""
LEAST_SCORE = 0.05
"""Detections that score less are left out. There are very many of them, nearly all wrong, and they
would bring the error of any detector near 0."""
_ROUNDING = 1e-6
"""How far a score may be over 1, as sums of float32 numbers may be, and still count as 1."""


@dataclass(frozen=True)
class Calibration:
    """The calibration of one row.

    Detections count if they score at least :data:`LEAST_SCORE`, are not matched to a crowd region,
    and are of a class with an object in the images.
    """

    error: float | None
    """Expected calibration error, in [0, 1]. None: no detection counts, or the scores are no
    probabilities, since one of the row is outside [0, 1]."""
    counts: tuple[int, ...]
    """(B,) number of detections in each bin. All are 0 where there is no error."""
    scores: tuple[float | None, ...]
    """(B,) mean score of each bin. None: the bin is empty."""
    precisions: tuple[float | None, ...]
    """(B,) share of the detections of each bin that are right. None: the bin is empty."""


def measure_calibration(matching: Matching) -> Calibration:
    """Return the calibration of a matching, whose first IoU threshold is 0.5."""
    objects, results = matching.objects, matching.results
    of_class = count_objects(objects.label, objects.counted(), matching.num_classes)
    counted = matching.counted[0] & (of_class[results.label] > 0)
    counted &= results.scores >= LEAST_SCORE
    scores = results.scores[counted]
    right = matching.correct[0][counted]
    if not _are_probabilities(results.scores):
        scores, right = scores[:0], right[:0]
    bounds = np.arange(1, BINS) / BINS
    at = np.searchsorted(bounds, scores, side="right")
    counts = np.bincount(at, minlength=BINS)
    mean_scores = _means(at, scores, counts)
    precisions = _means(at, right, counts)
    error = None
    if len(scores):
        filled = counts > 0
        gaps = abs(mean_scores - precisions)[filled]
        error = float(gaps @ counts[filled] / len(scores))
    return Calibration(error, tuple(counts.tolist()), _listed(mean_scores), _listed(precisions))


def _are_probabilities(scores: NDArray[np.float64]) -> bool:
    return bool(((scores >= 0) & (scores <= 1 + _ROUNDING)).all())


def _means(
    at: NDArray[np.int64], values: NDArray[np.generic], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the mean of the values in each bin, NaN where the bin is empty.

    ``at`` (d,) is the bin of each value, ``counts`` (B,) the number of values of each bin.
    """
    sums = np.bincount(at, weights=values, minlength=BINS)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _listed(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    """Return numbers as JSON can hold them: None in place of NaN."""
    return tuple(None if np.isnan(value) else value for value in values.tolist())
