"""AP over several trained runs, and its differences, with an interval over images and seeds.

The interval of a single run says how much a figure depends on the images on which it was
measured. Another seed gives other weights, and so another figure. Here both are resampled.

S: seeds, R: resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postnms.evaluation.average_precision import average_precisions
from postnms.evaluation.bootstrap import gain_interval, resampled_precisions
from postnms.evaluation.matching import Matching

_SEEDS = 1
"""Tells the generator that draws seeds from those that draw images."""


@dataclass(frozen=True)
class Resampled:
    """AP of one row of an arm in per cent. NaN: the images have no object."""

    ap: NDArray[np.float64]
    """(S,) AP of the run of each seed on all images."""
    drawn: NDArray[np.float64]
    """(S, R) AP of the run of each seed on the images of each resample."""


@dataclass(frozen=True)
class Estimate:
    """AP, or AP of one side minus AP of the other, in per cent. NaN: the images have no object."""

    per_seed: tuple[float, ...]
    """(S,) the figure of each seed."""
    mean: float
    """Mean over the seeds."""
    low: float | None
    """Lower bound of the 95 % interval of the mean. None: no resample has an object."""
    high: float | None
    """Upper bound."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as values that JSON can hold: None in place of NaN."""
        each = [None if math.isnan(value) else value for value in self.per_seed]
        mean = None if math.isnan(self.mean) else self.mean
        return {"per_seed": each, "mean": mean, "low": self.low, "high": self.high}


def resample(
    matchings: Sequence[Matching], image_sets: Sequence[int], resamples: int, seed: int = 0
) -> Resampled:
    """Return AP of the runs of one side on all images and on drawn ones.

    Args:
        matchings: the matched results of the run of each of the S seeds.
        image_sets: (S,) a number from 0 on. Runs with equal numbers are measured on the same
            images, and resample r draws the same images for all of them. Built-in scenes depend on
            the seed, so there each run has images of its own.
        resamples: R, at least 1.
        seed: seed of the resamples. Both sides of a difference must have the same one.
    """
    once = [np.ones((1, matching.num_images), np.int32) for matching in matchings]
    pairs = zip(matchings, once, strict=True)
    drawn = [
        resampled_precisions(matching, resamples, seed + images)
        for matching, images in zip(matchings, image_sets, strict=True)
    ]
    ap = [average_precisions(matching, copies)[0] for matching, copies in pairs]
    return Resampled(np.array(ap), np.array(drawn))


def mean_precision(side: Resampled, seed: int = 0) -> Estimate:
    """Return AP of the runs of one side, with the 95 % interval of its mean.

    The interval is a bootstrap over images and seeds, as that of :func:`paired_difference`.
    """
    return _estimate(side.ap, side.drawn, seed)


def paired_difference(left: Resampled, right: Resampled, seed: int = 0) -> Estimate:
    """Return AP of the left side minus AP of the right side, with its 95 % interval.

    The interval is a paired bootstrap over images and seeds. In each resample the images are drawn
    with replacement, the same ones for both sides and for all seeds, and so are S of the S seeds,
    the same ones for both sides. The statistic is the mean over the drawn seeds of AP(left) -
    AP(right). The ends of the interval are its percentiles 2.5 and 97.5. Resamples without an
    object are left out. With one seed, the interval is over the images alone.

    The bootstrap knows no other seeds than those that were run. So with few of them the interval
    is too narrow.

    Args:
        left: a side from :func:`resample`.
        right: the other side, of runs with the same seeds in the same order, which has as many
            resamples that were drawn with the same seed.
        seed: seed of the draws of seeds.

    Raises:
        ValueError: the sides have other numbers of seeds or of resamples.
    """
    if left.drawn.shape != right.drawn.shape:
        raise ValueError(
            f"right: expected {left.drawn.shape} seeds and resamples as left, "
            f"got {right.drawn.shape}"
        )
    return _estimate(left.ap - right.ap, left.drawn - right.drawn, seed)


def _estimate(ap: NDArray[np.float64], drawn: NDArray[np.float64], seed: int) -> Estimate:
    """Return the mean over the seeds and its interval. ``ap`` (S,) and ``drawn`` (S, R)."""
    seeds, resamples = drawn.shape
    chosen = np.random.default_rng([seed, _SEEDS]).integers(0, seeds, (resamples, seeds))
    means = drawn[chosen, np.arange(resamples)[:, None]].mean(1)
    interval = gain_interval(np.zeros(resamples), means)
    return Estimate(tuple(ap.tolist()), float(ap.mean()), *interval)
