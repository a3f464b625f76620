"""Paired bootstrap over images: how sure a difference of AP is, given the images it was measured on.

Detections are matched once, by COCO's greedy rule; a resample is then a number of copies of each image, so its AP
needs only weighted sums over the detections in score order.

T: the 10 IoU thresholds, d: detections of a class, B: images.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100
"""Detections of an image and class that count, by score."""

_compiled = njit(cache=True, nogil=True)


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
    positions = {image_id: i for i, image_id in enumerate(sorted(image["id"] for image in truth["images"]))}
    objects: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    found: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for entry in truth["annotations"]:
        objects[entry["category_id"], positions[entry["image_id"]]].append(entry)
    for entry in results:
        found[entry["category_id"], positions[entry["image_id"]]].append(entry)
    matches = [_match_class(c["id"], len(positions), objects, found) for c in truth["categories"]]
    return [match for match in matches if match.objects.any()]


def average_precision(matches: Sequence[ClassMatches], copies: NDArray[np.int64]) -> float:
    """AP in per cent when image i is there ``copies[i]`` times; NaN if no object is left."""
    values = [
        _average_precisions(m.image, m.correct, m.counted, copies, int(m.objects @ copies), RECALLS).mean()
        for m in matches
        if m.objects @ copies
    ]
    return 100 * float(np.mean(values)) if values else float("nan")


def gain_interval(
    truth: dict[str, Any], before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], resamples: int, seed: int
) -> tuple[float, float]:
    """95 % percentile interval of AP(after) - AP(before), both on the same resampled images; in per cent."""
    matches = match_results(truth, before), match_results(truth, after)
    count = len(truth["images"])
    random = np.random.default_rng(seed)
    gains = []
    for _ in range(resamples):
        copies = np.bincount(random.integers(0, count, count), minlength=count)
        gains.append(average_precision(matches[1], copies) - average_precision(matches[0], copies))
    low, high = np.nanpercentile(gains, [2.5, 97.5])
    return float(low), float(high)


def _match_class(
    category: int,
    images: int,
    objects: dict[tuple[int, int], list[dict[str, Any]]],
    found: dict[tuple[int, int], list[dict[str, Any]]],
) -> ClassMatches:
    image, scores, matched, ignored = [], [], [], []
    counts = np.zeros(images, np.int64)
    for position in range(images):
        truths = sorted(objects.get((category, position), []), key=lambda entry: entry["iscrowd"])
        entries = sorted(found.get((category, position), []), key=lambda entry: -entry["score"])[:MAX_DETECTIONS]
        crowd = np.array([entry["iscrowd"] for entry in truths], np.bool_)
        counts[position] = (~crowd).sum()
        if not entries:
            continue
        boxes = np.array([entry["bbox"] for entry in entries], np.float64)
        truth_boxes = np.array([entry["bbox"] for entry in truths], np.float64).reshape(-1, 4)
        hit, on_crowd = _match_image(boxes, truth_boxes, crowd, IOU_THRESHOLDS)
        matched.append(hit)
        ignored.append(on_crowd)
        image += [position] * len(entries)
        scores += [entry["score"] for entry in entries]
    order = np.argsort(-np.array(scores, np.float64), kind="stable")
    nothing = [np.zeros((len(IOU_THRESHOLDS), 0), np.bool_)]
    hits = np.concatenate(matched or nothing, axis=1)[:, order]
    crowds = np.concatenate(ignored or nothing, axis=1)[:, order]
    return ClassMatches(np.array(image, np.int64)[order], hits & ~crowds, ~crowds, counts)


@_compiled
def _match_image(boxes, truths, crowd, thresholds):  # pragma: no cover: compiled
    """COCO's rule: by falling score, each box takes the best free object, else a crowd region (any number may).

    Boxes (d, 4) and truths (m, 4) are x, y, width, height; crowd regions come last. Returns two (T, d): matched,
    and matched to a crowd region.
    """
    count, objects = len(boxes), len(truths)
    matched = np.zeros((len(thresholds), count), np.bool_)
    on_crowd = np.zeros((len(thresholds), count), np.bool_)
    iou = np.zeros((count, objects))
    for d in range(count):
        for g in range(objects):
            width = min(boxes[d, 0] + boxes[d, 2], truths[g, 0] + truths[g, 2]) - max(boxes[d, 0], truths[g, 0])
            height = min(boxes[d, 1] + boxes[d, 3], truths[g, 1] + truths[g, 3]) - max(boxes[d, 1], truths[g, 1])
            if width <= 0 or height <= 0:
                continue
            area = boxes[d, 2] * boxes[d, 3]
            union = area if crowd[g] else area + truths[g, 2] * truths[g, 3] - width * height
            iou[d, g] = width * height / union
    for t in range(len(thresholds)):
        taken = np.zeros(objects, np.bool_)
        for d in range(count):
            best, least = -1, min(thresholds[t], 1 - 1e-10)
            for g in range(objects):
                if taken[g] and not crowd[g]:
                    continue
                if best >= 0 and not crowd[best] and crowd[g]:
                    break
                if iou[d, g] >= least:
                    best, least = g, iou[d, g]
            if best >= 0:
                taken[best] = True
                matched[t, d] = True
                on_crowd[t, d] = crowd[best]
    return matched, on_crowd


@_compiled
def _average_precisions(image, correct, counted, copies, objects, recalls):  # pragma: no cover: compiled
    """Mean precision at the 101 recalls, for each IoU threshold: (T,)."""
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
