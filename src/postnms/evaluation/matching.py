"""COCO's matching of results to the truth (the rule of pycocotools' ``COCOeval``).

Within a group (an image and a class), detections choose by falling score. Each takes the free
object with the largest IoU, if that reaches the threshold. The loops are compiled, because each
choice depends on the choices before it and cannot be vectorised.

Images have positions 0..B-1 (:func:`postnms.evaluation.numbering.image_positions`). Labels 0..K-1
are positions in ``truth.content["categories"]``, which may be in another order than
``truth.categories``. Boxes are x, y, width, height, in pixels.

m: objects and crowd regions, d: detections that count, T: IoU thresholds, B: images, K: classes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postnms.data.dataset import Truth
from postnms.evaluation.numbering import (
    NumberedEntries,
    category_positions,
    image_positions,
    number_entries,
    read_scores,
)
from postnms.evaluation.results import Result
from postnms.ops.jit import exact

MAX_DETECTIONS = 100
"""Largest number of detections of an image and class that count: those with the best scores."""


@dataclass(frozen=True)
class Objects:
    """The annotations whose class is in the list of categories, in the order of the truth."""

    image: NDArray[np.int64]
    """(m,) 0..B-1: position of the image."""
    label: NDArray[np.int64]
    """(m,) 0..K-1."""
    boxes: NDArray[np.float64]
    """(m, 4) x, y, width, height, in pixels."""
    crowd: NDArray[np.bool_]
    """(m,). True: a crowd region, which is not an object."""


@dataclass(frozen=True)
class CountedResults:
    """The results that count, by falling score. Ties: by image, then in the order given."""

    image: NDArray[np.int64]
    """(d,) 0..B-1: position of the image."""
    label: NDArray[np.int64]
    """(d,) 0..K-1."""
    boxes: NDArray[np.float64]
    """(d, 4) x, y, width, height, in pixels."""
    scores: NDArray[np.float64]
    """(d,) in falling order."""


@dataclass(frozen=True)
class Matching:
    """The object that each detection takes, at every IoU threshold."""

    objects: Objects
    """The m objects and crowd regions."""
    results: CountedResults
    """The d detections that count."""
    taken: NDArray[np.int64]
    """(T, d) row of the object or crowd region to which the detection is matched. -1: to none."""
    num_images: int
    """B."""
    num_classes: int
    """K."""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(T, d). True: the detection is matched to an object."""
        return (self.taken >= 0) & ~self._on_crowd

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(T, d). True: the detection is right or wrong, as it is not matched to a crowd region."""
        return ~self._on_crowd

    @property
    def _on_crowd(self) -> NDArray[np.bool_]:
        """(T, d). True: the detection is matched to a crowd region."""
        # Row -1 (matched to none) reads the appended False.
        return np.append(self.objects.crowd, False)[self.taken]


@dataclass(frozen=True)
class Closest:
    """The object of its image that each detection overlaps most. Ties: the lower row."""

    iou: NDArray[np.float64]
    """(d,) IoU with that object, in [0, 1]. 0: the detection overlaps no object."""
    row: NDArray[np.int64]
    """(d,) row of the object, 0..m-1. -1: the detection overlaps no object."""


def match_results(
    truth: Truth, results: Sequence[Result], thresholds: NDArray[np.float64]
) -> Matching:
    """Match results to the truth at each IoU threshold, by COCO's rule.

    Results and annotations of a class that the truth does not list are left out. Only the
    :data:`MAX_DETECTIONS` best results of an image and class count. Of several objects with equal
    IoU, the last one in the truth is taken. A detection that no free object suits may be matched to
    a crowd region, and any number of detections may share one. The overlap with a crowd region is
    the fraction of the detection's area inside the region, instead of the IoU.

    Args:
        truth: the annotations.
        results: the results of one detector, in any order.
        thresholds: (T,) IoU thresholds in [0, 1].

    Raises:
        ValueError: an entry has an image id that the truth does not list, or a box or a score
            that is not finite.
    """
    positions = image_positions(truth)
    labels = category_positions(truth)
    annotations = [entry for entry in truth.annotations if entry["category_id"] in labels]
    crowd = np.array([entry["iscrowd"] for entry in annotations], np.bool_)
    truths = number_entries("annotations", annotations, positions, labels)
    objects = Objects(truths.image, truths.label, truths.boxes, crowd)
    known = [entry for entry in results if entry["category_id"] in labels]
    numbered = number_entries("results", known, positions, labels)
    counted = _count_results(numbered, read_scores(known), len(positions))
    # Detections meet objects of their group only. A group, an image and a class, is one number.
    of_object = objects.label * len(positions) + objects.image
    of_result = counted.label * len(positions) + counted.image
    # Each group becomes a slice: its objects before its crowd regions, as the kernel needs them,
    # and its detections still by falling score, since the sort is stable.
    object_order = np.lexsort((objects.crowd, of_object))
    result_order = np.argsort(of_result, kind="stable")
    groups, starts = np.unique(of_result[result_order], return_index=True)
    taken = np.full((len(thresholds), len(counted.scores)), -1, np.int64)
    # Writing through result_order puts the rows back into the order of all detections.
    taken[:, result_order] = _match_groups(
        np.append(starts, len(result_order)),
        counted.boxes[result_order],
        np.searchsorted(of_object[object_order], groups, side="left"),
        np.searchsorted(of_object[object_order], groups, side="right"),
        object_order,
        objects.boxes,
        objects.crowd,
        thresholds,
    )
    return Matching(objects, counted, taken, len(positions), len(labels))


def images_over_limit(results: Sequence[Result]) -> int:
    """Return the number of images with results of a class that do not count.

    These are images with more than :data:`MAX_DETECTIONS` results of one class.
    """
    counts = Counter((entry["image_id"], entry["category_id"]) for entry in results)
    return len({image for (image, _), count in counts.items() if count > MAX_DETECTIONS})


def closest_objects(matching: Matching) -> tuple[Closest, Closest]:
    """Return for each detection the closest object of its class, and that of all other classes.

    The closest object has the largest IoU in the same image. Crowd regions are left out.
    """
    objects = matching.objects
    results = matching.results
    # Objects by image, so that those of image b are order[starts[b]:starts[b + 1]].
    order = np.flatnonzero(~objects.crowd)
    order = order[np.argsort(objects.image[order], kind="stable")]
    starts = np.searchsorted(objects.image[order], np.arange(matching.num_images + 1))
    iou, row = _closest(
        results.image, results.label, results.boxes, starts, order, objects.label, objects.boxes
    )
    return Closest(iou[0], row[0]), Closest(iou[1], row[1])


def _count_results(
    entries: NumberedEntries, scores: NDArray[np.float64], num_images: int
) -> CountedResults:
    """Return the best :data:`MAX_DETECTIONS` results of each group, by falling score."""
    # The last key of lexsort comes first: by score, then by image, then in the order given.
    order = np.lexsort((entries.image, -scores))
    groups = (entries.label * num_images + entries.image)[order]
    # The rank of a result in its group is its distance from the start of the group, in a stable
    # order by group. searchsorted finds that start.
    by_group = np.argsort(groups, kind="stable")
    rank = np.empty(len(groups), np.int64)
    rank[by_group] = np.arange(len(groups)) - np.searchsorted(groups[by_group], groups[by_group])
    order = order[rank < MAX_DETECTIONS]
    return CountedResults(
        entries.image[order], entries.label[order], entries.boxes[order], scores[order]
    )


@exact
def _iou(boxes, d, truths, g, crowd):  # pragma: no cover: compiled
    """Return the IoU of box ``d`` and object ``g``, in [0, 1].

    If ``g`` is a crowd region (``crowd``), return the fraction of the box that is inside it.
    """
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
    """Match every group at every threshold, and return the rows of the objects, (T, d). -1: none.

    It runs in compiled code once for all groups, because groups are many and small.

    Args:
        starts: group i has the detections ``starts[i]`` to ``starts[i + 1]`` (exclusive).
        boxes: (d, 4) boxes of the detections, by group and falling score.
        lows, highs: group i has the objects ``order[lows[i]:highs[i]]``.
        order: rows of the objects, by group, with crowd regions last in each group.
        truths: (m, 4) boxes of the objects and crowd regions.
        crowd: (m,) bool.
        thresholds: (T,) IoU thresholds.
    """
    taken = np.full((len(thresholds), len(boxes)), -1, np.int64)
    for i in range(len(lows)):
        rows = order[lows[i] : highs[i]]
        on_crowd = crowd[rows]
        first = starts[i]
        count = starts[i + 1] - starts[i]
        # The overlaps are the same for all thresholds, so they are computed once.
        iou = np.zeros((count, len(rows)))
        for d in range(count):
            for g in range(len(rows)):
                iou[d, g] = _iou(boxes, first + d, truths, rows[g], on_crowd[g])
        for t in range(len(thresholds)):
            _match_group(iou, on_crowd, thresholds[t], rows, taken[t, first : first + count])
    return taken


@exact
def _match_group(iou, crowd, threshold, rows, taken):  # pragma: no cover: compiled
    """Match one group at one threshold, and write the rows of the objects into ``taken`` (d,).

    ``iou`` (d, m) has the detections of the group by falling score, and its objects with crowd
    regions last. ``crowd`` (m,) marks the crowd regions, and ``rows`` (m,) has the rows of the
    objects in the truth.
    """
    free = np.ones(len(rows), np.bool_)
    for d in range(len(iou)):
        # COCO lowers a threshold of 1, so that rounding cannot exclude a perfect box.
        best = -1
        least = min(threshold, 1 - 1e-10)
        for g in range(len(rows)):
            # An object can be taken once, a crowd region any number of times.
            if not free[g] and not crowd[g]:
                continue
            # Crowd regions come last and are only for detections that no object suits.
            if best >= 0 and not crowd[best] and crowd[g]:
                break
            # With >=, the last of several objects with equal IoU is taken, as in COCO.
            if iou[d, g] >= least:
                best = g
                least = iou[d, g]
        if best >= 0:
            free[best] = False
            taken[d] = rows[best]


@exact
def _closest(image, label, boxes, starts, order, labels, truths):  # pragma: no cover: compiled
    """Return the largest IoU of each detection and the row of its object, each (2, d).

    Index 0 is for objects of the detection's class, index 1 for objects of the other classes.
    The objects of image b are ``order[starts[b]:starts[b + 1]]``. It is compiled, because it
    looks at all pairs of a detection and an object of one image.
    """
    best = np.zeros((2, len(boxes)))
    row = np.full((2, len(boxes)), -1, np.int64)
    for d in range(len(boxes)):
        for g in order[starts[image[d]] : starts[image[d] + 1]]:
            iou = _iou(boxes, d, truths, g, False)
            side = 0 if labels[g] == label[d] else 1
            if iou > best[side, d]:
                best[side, d] = iou
                row[side, d] = g
    return best, row
