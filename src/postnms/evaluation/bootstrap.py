"""Paired bootstrap over images: how sure a difference of AP is, given the images it was measured on.

Detections are matched once, by COCO's greedy rule; a resample is then a number of copies of each image, so its AP
needs only weighted sums over the detections in score order.

T: the 10 IoU thresholds, d: detections of a class, B: images.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postnms.evaluation.average_precision import average_precision, match_results


def resampled_precisions(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], resamples: int, seed: int
) -> NDArray[np.float64]:
    """AP in per cent on each of (resamples,) sets of images drawn with replacement; equal seeds draw equal sets."""
    matches, count = match_results(truth, results), len(truth["images"])
    random = np.random.default_rng(seed)
    draws = (random.integers(0, count, count) for _ in range(resamples))
    return np.array(
        [average_precision(matches, np.bincount(draw, minlength=count)) for draw in draws]
    )


def gain_interval(
    before: NDArray[np.float64], after: NDArray[np.float64]
) -> tuple[float, float] | tuple[None, None]:
    """95 % percentile interval of AP(after) - AP(before), from :func:`resampled_precisions` of one seed; per cent.

    (None, None) if no resample has an object.
    """
    gains = after - before
    if np.isnan(gains).all():
        return None, None
    low, high = np.nanpercentile(gains, [2.5, 97.5])
    return float(low), float(high)
