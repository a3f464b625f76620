"""A paired bootstrap over the images: the interval of a difference of AP.

The interval says how much the difference depends on the images on which it was measured. Results
are matched to the truth once, because COCO matches each image on its own. A resample is then a
number of copies of each image. Its AP needs only weighted sums over the detections by falling
score.
"""

import numpy as np
from numpy.typing import NDArray

from postnms.evaluation.average_precision import average_precisions
from postnms.evaluation.matching import Matching
from postnms.evaluation.results import Gain

Resampled = tuple[float | None, NDArray[np.float64] | None]
"""AP on all images and on those of each resample, in per cent. None: it is undefined, or no
resamples were drawn."""

_COPIES_AT_ONCE = 1 << 22
"""Largest number of counts of copies that are in memory together."""


def resampled_precisions(matching: Matching, resamples: int, seed: int) -> NDArray[np.float64]:
    """Return AP on sets of images that are drawn with replacement, (resamples,) in per cent.

    Every set has as many images as the truth. Calls with equal seeds and the same truth draw equal
    sets, so the values of two detectors can be compared pair by pair. NaN: a set has no object.

    Args:
        matching: the matched results of one detector.
        resamples: number of sets.
        seed: an integer that is at least 0.
    """
    count = matching.num_images
    random = np.random.default_rng(seed)
    at_once = max(_COPIES_AT_ONCE // max(count, 1), 1)
    parts = [np.empty(0)]
    for start in range(0, resamples, at_once):
        sets = range(start, min(start + at_once, resamples))
        copies = np.empty((len(sets), count), np.int32)
        for row in copies:
            row[:] = np.bincount(random.integers(0, count, count), minlength=count)
        parts.append(average_precisions(matching, copies))
    return np.concatenate(parts)


def gain_of(before: Resampled, after: Resampled) -> Gain:
    """Return AP of the second minus AP of the first, with its interval if both have resamples.

    Example:
        >>> gain_of((40.0, None), (41.5, None))
        Gain(AP=1.5, low=None, high=None)
    """
    if before[0] is None or after[0] is None:
        return Gain(None)
    gain = after[0] - before[0]
    if before[1] is None or after[1] is None:
        return Gain(gain)
    return Gain(gain, *gain_interval(before[1], after[1]))


def gain_interval(
    before: NDArray[np.float64], after: NDArray[np.float64]
) -> tuple[float, float] | tuple[None, None]:
    """Return the 95 % interval (low, high) of AP(after) - AP(before), in per cent.

    The ends are the percentiles 2.5 and 97.5 of the differences. Resamples without an object (NaN)
    are left out. The result is (None, None) if no other resample is there.

    Args:
        before: AP of each resample, from :func:`resampled_precisions`.
        after: AP of the other results on the same resamples, drawn with the same seed.

    Example:
        >>> gain_interval(np.array([40.0, 41.0, 42.0]), np.array([41.0, 42.0, 43.0]))
        (1.0, 1.0)
    """
    gains = after - before
    if np.isnan(gains).all():
        return None, None
    low, high = np.nanpercentile(gains, [2.5, 97.5])
    return float(low), float(high)
