"""Average precision (AP) from COCO's matching.

The precision is interpolated as in COCO's evaluation. AP is its mean over 101 recalls and 10 IoU
thresholds. An image may count several times or not at all, as a bootstrap needs it.

T: IoU thresholds, d: detections of a class, B: images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postnms.data.dataset import Truth
from postnms.evaluation.matching import match_results
from postnms.evaluation.results import Result
from postnms.ops.jit import exact

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU thresholds over which COCO averages AP: 0.5, 0.55, ..., 0.95."""

RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which COCO reads the precision: 0, 0.01, ..., 1."""


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class by falling score, and the number of its objects in each image."""

    image: NDArray[np.int64]
    """(d,) 0..B-1: position of the image."""
    correct: NDArray[np.bool_]
    """(T, d). True: the detection is matched to an object."""
    counted: NDArray[np.bool_]
    """(T, d). True: the detection is right or wrong, as it is not matched to a crowd region."""
    objects: NDArray[np.int64]
    """(B,) number of objects of the class in each image, without crowd regions."""
    scores: NDArray[np.float64]
    """(d,) in falling order."""


def matches_by_class(truth: Truth, results: Sequence[Result]) -> list[ClassMatches]:
    """Match results to the truth at all :data:`IOU_THRESHOLDS`, and sort the matches by class.

    The classes are in the order of ``truth.content["categories"]``. A class without objects has no
    AP and is left out.
    """
    matching = match_results(truth, results, IOU_THRESHOLDS)
    objects = matching.objects
    counted_results = matching.results
    correct = matching.correct
    counted = matching.counted
    matches = []
    for label in np.unique(objects.label[~objects.crowd]):
        rows = counted_results.label == label
        images = objects.image[(objects.label == label) & ~objects.crowd]
        counts = np.bincount(images, minlength=matching.num_images)
        image, scores = counted_results.image[rows], counted_results.scores[rows]
        matches.append(ClassMatches(image, correct[:, rows], counted[:, rows], counts, scores))
    return matches


def average_precision(matches: Sequence[ClassMatches], copies: NDArray[np.int64]) -> float:
    """Return AP in per cent, where image i counts ``copies[i]`` times.

    It is the mean over the IoU thresholds, and over the classes that have an object in the counted
    images. NaN: no class has one.

    Args:
        matches: the matches of each class.
        copies: (B,) number of copies of each image, at least 0.
    """
    values = [
        average_precisions(
            m.image, m.correct, m.counted, copies, int(m.objects @ copies), RECALLS
        ).mean()
        for m in matches
        if m.objects @ copies
    ]
    return 100 * float(np.mean(values)) if values else float("nan")


@exact
def average_precisions(
    image, correct, counted, copies, objects, recalls
):  # pragma: no cover: compiled
    """Return the mean precision of a class at the recalls, (T,) in [0, 1].

    It runs in compiled code, because a bootstrap calls it for every class and resample.

    Args:
        image: (d,) position of the image of each detection. Detections are by falling score.
        correct: (T, d) bool, matched to an object.
        counted: (T, d) bool, not matched to a crowd region.
        copies: (B,) number of copies of each image.
        objects: number of objects in all copies, at least 1.
        recalls: the recalls in rising order.
    """
    thresholds, count = correct.shape
    means = np.zeros(thresholds)
    recall = np.empty(count)
    precision = np.empty(count)
    for t in range(thresholds):
        hits = 0.0
        misses = 0.0
        for d in range(count):
            # A copy of an image repeats its detections, so each of them counts that many times.
            weight = copies[image[d]]
            if correct[t, d]:
                hits += weight
            elif counted[t, d]:
                misses += weight
            recall[d] = hits / objects
            # COCO adds the spacing of 1, which avoids 0 / 0 as long as nothing has counted.
            precision[d] = hits / (hits + misses + np.spacing(1.0))
        # Interpolation: the precision at a recall is the best one at this or any higher recall.
        for d in range(count - 2, -1, -1):
            precision[d] = max(precision[d], precision[d + 1])
        # Both lists rise, so one pass finds the first detection that reaches each recall.
        d = 0
        for target in recalls:
            while d < count and recall[d] < target:
                d += 1
            # No detection reaches this recall or a higher one. The precision there is 0.
            if d == count:
                break
            means[t] += precision[d] / len(recalls)
    return means
