"""Average precision (AP) from COCO's matching.

The precision is interpolated as in COCO's evaluation. AP is its mean over 101 recalls and the IoU
thresholds. An image may count several times or not at all, as a bootstrap needs it.

d: detections, A: ranges of area, T: IoU thresholds, R: recalls, K: classes, B: images,
S: resamples.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from postnms.evaluation.matching import Matching
from postnms.evaluation.matching_kernels import RIGHT, WRONG
from postnms.evaluation.precision_kernels import precisions_of_classes, precisions_of_resamples
from postnms.ops.threads import Range, share, split

RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which COCO reads the precision: 0, 0.01, ..., 1."""

_STEPS = 8
"""About how many multiply-adds a detection costs at a threshold."""


@dataclass(frozen=True)
class Precisions:
    """What COCO's evaluation accumulates. -1: the class has no object in the range of area."""

    precision: NDArray[np.float64]
    """(A, T, R, K) in [0, 1]: the interpolated precision at each of the :data:`RECALLS`."""
    recall: NDArray[np.float64]
    """(A, T, K) in [0, 1]: the share of the objects that all detections find."""


@dataclass(frozen=True)
class ByClass:
    """Detections by class, and by falling score within a class."""

    order: NDArray[np.int64]
    """(d,) rows of the detections."""
    starts: NDArray[np.int64]
    """(K + 1,): class k has the rows ``order[starts[k]:starts[k + 1]]``."""


def by_class(label: NDArray[np.int64], num_classes: int) -> ByClass:
    """Sort detections by class. ``label`` (d,) is by falling score."""
    order = np.argsort(label, kind="stable")
    return ByClass(order, np.searchsorted(label[order], np.arange(num_classes + 1)))


def accumulate(
    verdicts: NDArray[np.int8],
    rows: ByClass,
    objects: NDArray[np.int64],
    ends: NDArray[np.int64] | None = None,
) -> Precisions:
    """Return the precisions and the recalls of every class.

    Args:
        verdicts: (A, T, d) as :attr:`postnms.evaluation.matching.Matching.verdicts`.
        rows: the detections by class.
        objects: (A, K) number of objects of each class.
        ends: (K,): the detections of class k end at ``order[ends[k]]``. None: all count.
    """
    ranges, thresholds = verdicts.shape[:2]
    classes = len(rows.starts) - 1
    precision = np.empty((ranges, thresholds, len(RECALLS), classes))
    recall = np.empty((ranges, thresholds, classes))
    ends = rows.starts[1:] if ends is None else ends

    def run(part: Range) -> None:
        precisions_of_classes(
            part, rows.order, rows.starts[:-1], ends, verdicts, objects, RECALLS, precision, recall
        )

    share(run, split(classes, verdicts.size * _STEPS))
    return Precisions(precision, recall)


def count_objects(
    label: NDArray[np.int64], counted: NDArray[np.bool_], num_classes: int
) -> NDArray[np.int64]:
    """Return the number of objects of each class, (K,), of those that are counted (m,)."""
    return np.bincount(label[counted], minlength=num_classes)


def average_precisions(matching: Matching, copies: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return AP of each resample, (S,) in per cent. Image i counts ``copies[s, i]`` times in it.

    It is the mean over the IoU thresholds, and over the classes that have an object in the counted
    images. NaN: no class has one.

    Args:
        matching: the matches of one row.
        copies: (S, B) number of copies of each image, at least 0.
    """
    means = np.empty((len(copies), matching.num_classes, matching.verdicts.shape[1]))
    if means.size:
        _resample(matching, np.ascontiguousarray(copies, np.int32), means)
    of_classes = means.mean(axis=2)
    values = [line[~np.isnan(line)] for line in of_classes]
    return np.array([100 * line.mean() if len(line) else np.nan for line in values])


def _resample(matching: Matching, copies: NDArray[np.int32], means: NDArray[np.float64]) -> None:
    """Write the mean precision of every class at every threshold into ``means`` (S, K, T)."""
    rows = by_class(matching.results.label, matching.num_classes)
    verdicts = matching.verdicts[0][:, rows.order]
    threshold, at = np.nonzero(verdicts != WRONG)
    right = verdicts[threshold, at] == RIGHT
    lines = np.searchsorted(threshold, np.arange(len(verdicts) + 1))
    bounds = [first + np.searchsorted(at[first:end], rows.starts) for first, end in pairwise(lines)]
    objects = matching.objects
    counted = np.flatnonzero(objects.counted())
    of_object = by_class(objects.label[counted], matching.num_classes)
    # Small numbers, so that more of them fit into the nearest cache.
    image_of_object = objects.image[counted][of_object.order].astype(np.int32)
    image = matching.results.image[rows.order].astype(np.int32)
    at = at.astype(np.int32)

    def run(part: Range) -> None:
        precisions_of_resamples(
            part, copies, image, rows.starts, at, right, np.array(bounds), image_of_object,
            of_object.starts, RECALLS, means,
        )  # fmt: skip

    share(run, split(len(copies), len(copies) * (len(image) + _STEPS * len(at))))
