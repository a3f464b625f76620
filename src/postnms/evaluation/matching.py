"""COCO's matching of results to the truth (the rule of pycocotools' ``COCOeval``).

Within a group (an image and a class), detections choose by falling score. Each takes the free
object with the largest IoU, if that reaches the threshold. Results are matched once, at all IoU
thresholds and for all ranges of area: figures, intervals, curves and types of errors all follow
from that one matching.

Images have positions 0..B-1 (:func:`postnms.evaluation.numbering.image_positions`). Labels 0..K-1
are positions in ``truth.content["categories"]``, which may be in another order than
``truth.categories``. Boxes are x, y, width, height, in pixels.

m: objects and crowd regions, d: detections that count, T: IoU thresholds, A: ranges of area,
B: images, K: classes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postnms.data.columns import ObjectColumns, columns_of
from postnms.data.dataset import Truth
from postnms.evaluation.columns import ResultColumns, read_results
from postnms.evaluation.matching_kernels import IGNORED, RIGHT, closest, match_groups
from postnms.evaluation.numbering import (
    category_positions,
    check_boxes,
    image_positions,
    number_entries,
    renumber,
)
from postnms.evaluation.results import Result
from postnms.ops.threads import Range, share, split

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU thresholds over which COCO averages: 0.5, 0.55, ..., 0.95."""

AREA_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""COCO's ranges of area in square pixels. Both ends are included. The first one has all objects."""

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
    area: NDArray[np.float64]
    """(m,) area of the annotation in square pixels, which may be less than that of its box."""
    crowd: NDArray[np.bool_]
    """(m,). True: a crowd region, which is not an object."""

    def counted(self, range_of_area: str = "all") -> NDArray[np.bool_]:
        """Return (m,). True: an object that is not a crowd region, with an area in the range."""
        low, high = AREA_RANGES[range_of_area]
        return ~self.crowd & (self.area >= low) & (self.area <= high)


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
    rank: NDArray[np.int64]
    """(d,) 0..99: number of better results of the same image and class."""
    given: NDArray[np.int64]
    """(d,) position among the results that ``read_results`` gives, which are in the order given."""


@dataclass(frozen=True)
class Matching:
    """What COCO says of each detection, at every IoU threshold and for every range of area."""

    objects: Objects
    """The m objects and crowd regions."""
    results: CountedResults
    """The d detections that count."""
    taken: NDArray[np.int32]
    """(d,) row of the object or crowd region to which the detection is matched at the first IoU
    threshold, whatever the area. -1: to none."""
    verdicts: NDArray[np.int8]
    """(A, T, d) what COCO says of each detection in each of the :data:`AREA_RANGES`, as a value of
    :mod:`postnms.evaluation.matching_kernels`: ``WRONG``, ``RIGHT``, or ``IGNORED`` if it is
    matched to a crowd region or to an object outside the range, or if it is matched to nothing and
    is itself outside the range."""
    num_images: int
    """B."""
    num_classes: int
    """K."""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(T, d). True: the detection is matched to an object."""
        return self.verdicts[0] == RIGHT

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(T, d). True: the detection is right or wrong, as it is not matched to a crowd region."""
        return self.verdicts[0] != IGNORED


@dataclass(frozen=True)
class Closest:
    """The object of its image that each detection overlaps most. Ties: the lower row."""

    iou: NDArray[np.float64]
    """(d,) IoU with that object, in [0, 1]. 0: the detection overlaps no object."""
    row: NDArray[np.int64]
    """(d,) row of the object, 0..m-1. -1: the detection overlaps no object."""


def match_results(
    truth: Truth,
    results: Sequence[Result] | ResultColumns,
    thresholds: NDArray[np.float64] = IOU_THRESHOLDS,
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
        ValueError: an entry lacks a field, has an image id that the truth does not list, or a box
            or a score that is not finite.
    """
    objects = _read_objects(truth)
    num_images, num_classes = len(truth.images), len(truth.content["categories"])
    counted = _count_results(read_results(truth, results), num_images)
    taken, verdicts = _match_counted(objects, counted, num_images, thresholds)
    return Matching(objects, counted, taken, verdicts, num_images, num_classes)


def _match_counted(
    objects: Objects, results: CountedResults, num_images: int, thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Return ``taken`` and ``verdicts`` of a :class:`Matching`."""
    # Detections meet objects of their group only. A group, an image and a class, is one number.
    of_object = objects.label * num_images + objects.image
    of_result = results.label * num_images + results.image
    # Each group becomes a slice: its objects in the order of the truth, and its detections by
    # falling score, since the sorts are stable.
    object_order = np.argsort(of_object, kind="stable")
    result_order = np.argsort(of_result, kind="stable")
    groups, starts = np.unique(of_result[result_order], return_index=True)
    starts = np.append(starts, len(result_order))
    lows = np.searchsorted(of_object[object_order], groups, side="left")
    highs = np.searchsorted(of_object[object_order], groups, side="right")
    boxes = results.boxes[result_order]
    limits = np.array(list(AREA_RANGES.values()))
    taken = np.full(len(result_order), -1, np.int32)
    verdicts = np.zeros((len(limits), len(thresholds), len(taken)), np.int8)

    def match(part: Range) -> None:
        match_groups(
            part, starts, boxes, lows, highs, object_order, objects.boxes, objects.crowd,
            objects.area, limits, thresholds, taken, verdicts,
        )  # fmt: skip

    pairs = int((np.diff(starts) * (highs - lows + 1)).sum())
    share(match, split(len(groups), pairs * limits.size * len(thresholds)))
    # Back into the order of all detections, line by line, so that memory holds them once.
    place = np.argsort(result_order)
    for line in verdicts.reshape(limits.shape[0] * len(thresholds), len(taken)):
        line[:] = line[place]
    return taken[place], verdicts


def images_over_limit(results: Sequence[Result] | ResultColumns) -> int:
    """Return the number of images with results of a class that do not count.

    These are images with more than :data:`MAX_DETECTIONS` results of one class.
    """
    if isinstance(results, ResultColumns):
        num_classes = max(len(results.category_ids), 1)
        groups = results.image * num_classes + results.label
        groups, counts = np.unique(groups, return_counts=True)
        return len(np.unique(groups[counts > MAX_DETECTIONS] // num_classes))
    pairs = Counter((entry["image_id"], entry["category_id"]) for entry in results)
    return len({image for (image, _), count in pairs.items() if count > MAX_DETECTIONS})


def closest_objects(matching: Matching) -> tuple[Closest, Closest]:
    """Return for each detection the closest object of its class, and that of all other classes.

    The closest object has the largest IoU in the same image. Crowd regions are left out.
    """
    objects = matching.objects
    results = matching.results
    # Objects by image, so that those of image b are order[starts[b]:starts[b + 1]].
    order = np.flatnonzero(objects.counted())
    order = order[np.argsort(objects.image[order], kind="stable")]
    starts = np.searchsorted(objects.image[order], np.arange(matching.num_images + 1))
    count = len(results.scores)
    iou = np.zeros((2, count))
    row = np.full((2, count), -1, np.int64)

    def find(part: Range) -> None:
        closest(
            part, results.image, results.label, results.boxes, starts, order, objects.label,
            objects.boxes, iou, row,
        )  # fmt: skip

    share(find, split(count, 16 * float(np.diff(starts)[results.image].sum())))
    return Closest(iou[0], row[0]), Closest(iou[1], row[1])


def _read_objects(truth: Truth) -> Objects:
    """Return the annotations of the classes that the truth lists, as columns."""
    columns = columns_of(truth.annotations, ObjectColumns)
    if columns is not None:
        known, image, label = renumber(
            "annotations", columns.image, columns.category, columns.image_ids,
            columns.category_ids, truth,
        )  # fmt: skip
        boxes = columns.boxes[known]
        check_boxes("annotations", boxes)
        return Objects(image, label, boxes, columns.area[known], columns.crowd[known])
    labels = category_positions(truth)
    annotations = [entry for entry in truth.annotations if entry["category_id"] in labels]
    numbered = number_entries("annotations", annotations, image_positions(truth), labels)
    area = np.array([entry["area"] for entry in annotations], np.float64)
    crowd = np.array([entry["iscrowd"] for entry in annotations], np.bool_)
    return Objects(numbered.image, numbered.label, numbered.boxes, area, crowd)


def _count_results(results: ResultColumns, num_images: int) -> CountedResults:
    """Return the best :data:`MAX_DETECTIONS` results of each group, by falling score."""
    # The last key of lexsort comes first: by score, then by image, then in the order given.
    order = np.lexsort((results.image, -results.scores))
    groups = (results.label * num_images + results.image)[order]
    rank = _ranks_in_groups(groups)
    counted = rank < MAX_DETECTIONS
    order = order[counted]
    return CountedResults(
        results.image[order],
        results.label[order],
        results.boxes[order],
        results.scores[order],
        rank[counted],
        order,
    )


def _ranks_in_groups(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each entry the number of entries of the same group before it."""
    # It is the distance from the start of the group, in a stable order by group. searchsorted
    # finds that start.
    by_group = np.argsort(groups, kind="stable")
    ranks = np.empty(len(groups), np.int64)
    ranks[by_group] = np.arange(len(groups)) - np.searchsorted(groups[by_group], groups[by_group])
    return ranks
