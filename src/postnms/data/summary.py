"""The numbers of a data set: images, objects, classes, sizes, and what looks like a mistake."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from postnms.config import Progress, no_progress
from postnms.data.check import Problem, find_problems, twice
from postnms.data.dataset import Dataset
from postnms.data.image_files import MAX_PIXELS
from postnms.data.records import counts_of_records, sizes_of_records

AREAS = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}
"""COCO's ranges of the area of an object in square pixels: the upper end is not part of a range."""


@dataclass(frozen=True)
class SplitSummary:
    """The numbers of one split."""

    source: str
    """The annotation file."""
    images: int
    objects: int
    """Number of annotated boxes, those of crowd regions included."""
    crowd: int
    """Number of crowd regions."""
    dropped: int
    """Number of boxes that are too small in their image to train on."""
    outside: int
    """Number of boxes that reach over the border of their image by more than a pixel."""
    empty_images: int
    """Number of images without objects."""
    objects_of: Mapping[str, int]
    """Number of boxes of each class, by its name. Classes of one name are counted together."""
    same_names: int
    """Number of classes whose name another class has already."""
    sides: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    """Smallest, median and largest (height, width) of the images in pixels, by side."""
    sizes: Mapping[str, int]
    """Number of boxes in each of :data:`AREAS`."""
    same_files: int
    """Number of images whose file another image of the split has already."""
    same_boxes: int
    """Number of boxes that equal another one of the same class and image."""
    problems: tuple[Problem, ...]
    """What is wrong with the image files."""

    @property
    def empty_classes(self) -> tuple[str, ...]:
        """Names of the classes without a box."""
        return tuple(name for name, count in self.objects_of.items() if not count)


def summarise(
    dataset: Dataset, max_pixels: int = MAX_PIXELS, done: Progress = no_progress
) -> SplitSummary:
    """Return the numbers of a split. ``done`` is called with 1 after every image."""
    truth = dataset.truth
    objects = truth.objects
    names = {category.id: category.name for category in truth.categories}
    found = np.bincount(objects.category, minlength=len(objects.category_ids)).tolist()
    counts: Counter[str] = Counter()
    for own, count in zip(objects.category_ids, found, strict=True):
        counts[names.get(own, "")] += count
    boxes = objects.boxes
    area = boxes[:, 2] * boxes[:, 3]
    sides = sizes_of_records(dataset.records).astype(np.int64)
    # Records are in the order of the images. Widths come first in the limits of x and y.
    limits = sides[objects.image][:, ::-1]
    over = (boxes[:, :2] < -1) | (boxes[:, :2] + boxes[:, 2:] > limits + 1)
    # Adding 0 makes -0 and 0 the same.
    same = np.column_stack([objects.image, objects.category, boxes]) + 0.0
    return SplitSummary(
        source=dataset.source,
        images=len(dataset.records),
        objects=len(objects),
        crowd=int(objects.crowd.sum()),
        dropped=len(objects) - int(counts_of_records(dataset.records).sum()),
        outside=int(over.any(axis=1).sum()),
        empty_images=len(dataset.records) - len(np.unique(objects.image)),
        objects_of={name: counts[name] for name in names.values()},
        same_names=twice(list(names.values())),
        sides=_extremes(sides),
        sizes={
            name: int(((area >= low) & (area < high)).sum()) for name, (low, high) in AREAS.items()
        },
        same_files=twice([str(record.path) for record in dataset.records]),
        same_boxes=len(same) - len(np.unique(same, axis=0)),
        problems=find_problems(dataset.records, max_pixels, done),
    )


def shared_images(first: Dataset, second: Dataset) -> list[str]:
    """Return the names of the images of ``second`` that ``first`` has too.

    Two images are the same if their files have the same content. Files are read only where two of
    them have the same size. A file that cannot be read is left out.
    """
    by_size: dict[int, list[Any]] = {}
    for record in first.records:
        by_size.setdefault(_size(record.path), []).append(record.path)
    shared = []
    for record in second.records:
        size = _size(record.path)
        others = by_size.get(size, []) if size else []
        content = _content(record.path) if others else None
        if content is not None and content in map(_content, others):
            shared.append(record.path.name)
    return shared


def _size(path: Any) -> int:
    """Return the size of a file in bytes. 0: it cannot be read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _content(path: Any) -> bytes | None:
    """Return the hash of a file. None: it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None


def _extremes(sides: np.ndarray) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return the smallest, the median and the largest of each column of ``sides`` (B, 2)."""
    if not len(sides):
        return (0, 0), (0, 0), (0, 0)
    rows: Sequence[np.ndarray] = (sides.min(0), np.median(sides, 0), sides.max(0))
    smallest, median, largest = [(int(row[0]), int(row[1])) for row in rows]
    return smallest, median, largest
