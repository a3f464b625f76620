"""Average precision from COCO's matching.

T: the 10 IoU thresholds, d: detections of a class, B: images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postnms.evaluation.matching import match
from postnms.ops.jit import exact

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class ClassMatches:
    """All detections of one class by falling score, and how many objects each image has."""

    image: NDArray[np.int64]
    """(d,) position of the image."""
    correct: NDArray[np.bool_]
    """(T, d): matched to an object."""
    counted: NDArray[np.bool_]
    """(T, d): neither matched to a crowd region."""
    objects: NDArray[np.int64]
    """(B,): objects that are no crowd regions."""


def match_results(truth: dict[str, Any], results: Sequence[dict[str, Any]]) -> list[ClassMatches]:
    """COCO's matching of results to the truth, by class; classes without objects are left out (they have no AP)."""
    matching = match(truth, results, IOU_THRESHOLDS)
    objects, found = matching.objects, matching.found
    correct, counted = matching.correct, matching.counted
    matches = []
    for label in np.unique(objects.label[~objects.crowd]):
        rows = found.label == label
        images = objects.image[(objects.label == label) & ~objects.crowd]
        counts = np.bincount(images, minlength=matching.num_images)
        matches.append(ClassMatches(found.image[rows], correct[:, rows], counted[:, rows], counts))
    return matches


def average_precision(matches: Sequence[ClassMatches], copies: NDArray[np.int64]) -> float:
    """AP in per cent when image i is there ``copies[i]`` times; NaN if no object is left."""
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
    """Mean precision at the recalls, [0, 1], for each IoU threshold: (T,)."""
    thresholds, count = correct.shape
    means = np.zeros(thresholds)
    recall = np.empty(count)
    precision = np.empty(count)
    for t in range(thresholds):
        hits, misses = 0.0, 0.0
        for d in range(count):
            weight = copies[image[d]]
            if correct[t, d]:
                hits += weight
            elif counted[t, d]:
                misses += weight
            recall[d] = hits / objects
            precision[d] = hits / (hits + misses + np.spacing(1.0))
        for d in range(count - 2, -1, -1):
            precision[d] = max(precision[d], precision[d + 1])
        d = 0
        for wanted in recalls:
            while d < count and recall[d] < wanted:
                d += 1
            if d == count:
                break
            means[t] += precision[d] / len(recalls)
    return means
