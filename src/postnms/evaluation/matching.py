"""COCO's matching of results to the truth: within an image and class, by falling score, the best object left.

m: objects and crowd regions, d: detections that count, T: IoU thresholds, B: images, K: classes. Images have positions
by rising id, classes those of the truth's list of categories. Boxes are x, y, width, height, in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postnms.ops.jit import exact

MAX_DETECTIONS = 100
"""Detections of an image and class that count, by score."""


@dataclass(frozen=True)
class Objects:
    """The annotations of known classes, in the order of the truth."""

    image: NDArray[np.int64]
    """(m,) 0..B-1."""
    label: NDArray[np.int64]
    """(m,) 0..K-1."""
    boxes: NDArray[np.float64]
    """(m, 4)."""
    crowd: NDArray[np.bool_]
    """(m,): a crowd region, no object."""


@dataclass(frozen=True)
class Found:
    """The results that count: by falling score, then image, then place in the results."""

    image: NDArray[np.int64]
    """(d,) 0..B-1."""
    label: NDArray[np.int64]
    """(d,) 0..K-1."""
    boxes: NDArray[np.float64]
    """(d, 4)."""
    scores: NDArray[np.float64]
    """(d,) falling."""


@dataclass(frozen=True)
class Matching:
    """Which object each detection takes."""

    objects: Objects
    found: Found
    taken: NDArray[np.int64]
    """(T, d): row of the object or crowd region that the detection is matched to, -1 where to none."""
    num_images: int
    num_classes: int

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(T, d): matched to an object."""
        return (self.taken >= 0) & ~self._on_crowd

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(T, d): right or wrong, that is not matched to a crowd region."""
        return ~self._on_crowd

    @property
    def _on_crowd(self) -> NDArray[np.bool_]:
        return np.append(self.objects.crowd, False)[self.taken]  # row -1: to none


@dataclass(frozen=True)
class Closest:
    """The object of its image that each detection overlaps most (ties: the lower row)."""

    iou: NDArray[np.float64]
    """(d,) [0, 1]; 0 where there is none."""
    row: NDArray[np.int64]
    """(d,) row of the object, -1 where the detection overlaps none."""


def match(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], thresholds: NDArray[np.float64]
) -> Matching:
    """Results against a COCO dict at IoU thresholds (T,); entries of a class that the truth does not list are left out.

    Raises ValueError for an entry of an image that the truth does not list.
    """
    positions = {
        image_id: i for i, image_id in enumerate(sorted(image["id"] for image in truth["images"]))
    }
    labels = {category["id"]: i for i, category in enumerate(truth["categories"])}
    annotations = [entry for entry in truth["annotations"] if entry["category_id"] in labels]
    crowd = np.array([entry["iscrowd"] for entry in annotations], np.bool_)
    objects = Objects(*_columns("annotations", annotations, positions, labels), crowd)
    found = _found(
        [entry for entry in results if entry["category_id"] in labels], positions, labels
    )
    of_object, of_found = (part.label * len(positions) + part.image for part in (objects, found))
    # Crowd regions after objects, detections by falling score.
    object_order = np.lexsort((objects.crowd, of_object))
    found_order = np.argsort(of_found, kind="stable")
    groups, starts = np.unique(of_found[found_order], return_index=True)
    taken = np.full((len(thresholds), len(found.scores)), -1, np.int64)
    taken[:, found_order] = _match_groups(
        np.append(starts, len(found_order)),
        found.boxes[found_order],
        np.searchsorted(of_object[object_order], groups, side="left"),
        np.searchsorted(of_object[object_order], groups, side="right"),
        object_order,
        objects.boxes,
        objects.crowd,
        thresholds,
    )
    return Matching(objects, found, taken, len(positions), len(labels))


def closest_objects(matching: Matching) -> tuple[Closest, Closest]:
    """For each detection the closest object of its class, and the closest of all other classes; no crowd regions."""
    objects, found = matching.objects, matching.found
    order = np.flatnonzero(~objects.crowd)
    order = order[np.argsort(objects.image[order], kind="stable")]
    starts = np.searchsorted(objects.image[order], np.arange(matching.num_images + 1))
    iou, row = _closest(
        found.image, found.label, found.boxes, starts, order, objects.label, objects.boxes
    )
    return Closest(iou[0], row[0]), Closest(iou[1], row[1])


def _found(
    entries: Sequence[dict[str, Any]], positions: dict[Any, int], labels: dict[Any, int]
) -> Found:
    image, label, boxes = _columns("results", entries, positions, labels)
    scores = np.array([entry["score"] for entry in entries], np.float64)
    order = np.lexsort((image, -scores))
    groups = (label * len(positions) + image)[order]
    by_group = np.argsort(groups, kind="stable")
    rank = np.empty(len(groups), np.int64)
    rank[by_group] = np.arange(len(groups)) - np.searchsorted(groups[by_group], groups[by_group])
    order = order[rank < MAX_DETECTIONS]
    return Found(image[order], label[order], boxes[order], scores[order])


def _columns(
    name: str, entries: Sequence[dict[str, Any]], positions: dict[Any, int], labels: dict[Any, int]
):
    try:
        image = np.array([positions[entry["image_id"]] for entry in entries], np.int64)
    except KeyError as unknown:
        raise ValueError(f"{name}: expected image ids of the truth, got {unknown}") from None
    label = np.array([labels[entry["category_id"]] for entry in entries], np.int64)
    return image, label, np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)


@exact
def _iou(boxes, d, truths, g, crowd):  # pragma: no cover: compiled
    """Of a crowd region: the share of the box that is inside."""
    width = min(boxes[d, 0] + boxes[d, 2], truths[g, 0] + truths[g, 2]) - max(
        boxes[d, 0], truths[g, 0]
    )
    height = min(boxes[d, 1] + boxes[d, 3], truths[g, 1] + truths[g, 3]) - max(
        boxes[d, 1], truths[g, 1]
    )
    if width <= 0 or height <= 0:
        return 0.0
    area = boxes[d, 2] * boxes[d, 3]
    return width * height / (area if crowd else area + truths[g, 2] * truths[g, 3] - width * height)


@exact
def _match_groups(
    starts, boxes, lows, highs, order, truths, crowd, thresholds
):  # pragma: no cover: compiled
    """Group i: detections ``starts[i]`` to ``starts[i + 1]`` and objects ``order[lows[i]:highs[i]]``; (T, d) rows."""
    taken = np.full((len(thresholds), len(boxes)), -1, np.int64)
    for i in range(len(lows)):
        rows = order[lows[i] : highs[i]]
        on_crowd = crowd[rows]
        first, count = starts[i], starts[i + 1] - starts[i]
        iou = np.zeros((count, len(rows)))
        for d in range(count):
            for g in range(len(rows)):
                iou[d, g] = _iou(boxes, first + d, truths, rows[g], on_crowd[g])
        for t in range(len(thresholds)):
            _match_group(iou, on_crowd, thresholds[t], rows, taken[t, first : first + count])
    return taken


@exact
def _match_group(iou, crowd, threshold, rows, taken):  # pragma: no cover: compiled
    """COCO's rule: by falling score, each box takes the best free object, else a crowd region (any number may)."""
    free = np.ones(len(rows), np.bool_)
    for d in range(len(iou)):
        best, least = -1, min(threshold, 1 - 1e-10)
        for g in range(len(rows)):
            if not free[g] and not crowd[g]:
                continue
            if best >= 0 and not crowd[best] and crowd[g]:
                break
            if iou[d, g] >= least:
                best, least = g, iou[d, g]
        if best >= 0:
            free[best] = False
            taken[d] = rows[best]


@exact
def _closest(image, label, boxes, starts, order, labels, truths):  # pragma: no cover: compiled
    """Best IoU and its row, each (2, d): with objects of the detection's class, and of the others."""
    best, row = np.zeros((2, len(boxes))), np.full((2, len(boxes)), -1, np.int64)
    for d in range(len(boxes)):
        for g in order[starts[image[d]] : starts[image[d] + 1]]:
            iou = _iou(boxes, d, truths, g, False)
            side = 0 if labels[g] == label[d] else 1
            if iou > best[side, d]:
                best[side, d], row[side, d] = iou, g
    return best, row
