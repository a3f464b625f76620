"""Candidates from a file of COCO results (https://cocodataset.org/#format-results) of any detector.

The list is read entry by entry into columns of numbers, which take about 32 bytes for an entry. So
memory never holds a list of millions of entries as Python objects.
"""

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from postnms.candidate_files.writer import CandidateWriter
from postnms.config import Progress, nearest, no_progress
from postnms.data.dataset import Truth
from postnms.data.formats.fields import (
    check_object,
    is_number,
    read_bbox,
    read_field,
    read_id,
    read_whole,
)
from postnms.errors import UserError, shown, shown_name
from postnms.files.json_files import LIMITS, JsonLimits
from postnms.files.json_stream import read_json_list
from postnms.structures import EXTRA_COLUMNS, Candidates

_OPTIONAL = {"source", *EXTRA_COLUMNS}
"""Fields that an entry may have beyond those of COCO."""
_COCO = {
    "image_id",
    "category_id",
    "bbox",
    "score",
    "id",
    "area",
    "iscrowd",
    "segmentation",
    "keypoints",
}
"""Fields of COCO results, of any of its tasks."""
_NAMES = {"category_name", "file_name"}
"""Fields with the names that the ids stand for, which SAHI and others write beside the ids."""
_KNOWN = _OPTIONAL | _COCO | _NAMES
"""Fields that an entry may have. Those that candidates do not need are ignored."""
_IMAGES_AT_ONCE = 256
"""Number of images that are written together."""
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_LARGEST_INT32 = np.iinfo(np.int32).max


def import_results(
    results: Path,
    truth: Truth,
    annotations_name: str,
    out: Path,
    provenance: Mapping[str, Any],
    done: Progress = no_progress,
    limits: JsonLimits = LIMITS,
) -> tuple[int, int]:
    """Convert COCO results to a file of candidates.

    An entry may have the field ``source`` and the extra columns that the library knows
    (:data:`postnms.structures.EXTRA_COLUMNS`). If one entry has such a field, all entries must have
    it; null counts as missing. Without the field ``source``, the source of an entry is its position
    among the entries of its image. Fields of COCO's results and ``category_name`` and ``file_name``
    may be there; any other field is an error. A whole number may be written as a float, as in
    annotations.

    Args:
        results: the file of results, plain or compressed with gzip.
        truth: the annotations of the images. The candidates have all its images, also those
            without an entry, in its order.
        annotations_name: the name of the annotations, which is written to the file.
        out: the file of candidates to write.
        provenance: facts about the origin of the candidates, which JSON can hold.
        done: called after every few hundred images with their number.
        limits: the largest sizes of the results and of one of their entries.

    Returns:
        The number of images and the number of candidates of the file.

    Raises:
        UserError: the results are malformed, or an entry does not fit the annotations. The message
            names the file, the entry and the field. Nothing is written.
    """
    entries = _Entries(truth, results.name)
    for entry in read_json_list(results, limits):
        entries.add(entry)
    columns = entries.columns()
    image = columns.pop("image")
    image_ids = [entry["id"] for entry in truth.images]
    # A stable sort by image keeps the order that entries of one image have in the file.
    order = np.argsort(image, kind="stable")
    ends = np.append(0, np.bincount(image, minlength=len(image_ids)).cumsum())
    with CandidateWriter(out, truth.categories, annotations_name, provenance) as writer:
        for first in range(0, len(image_ids), _IMAGES_AT_ONCE):
            ids = image_ids[first : first + _IMAGES_AT_ONCE]
            rows = order[ends[first] : ends[first + len(ids)]]
            batch = {name: torch.from_numpy(column[rows]) for name, column in columns.items()}
            writer.add(_candidates(batch, torch.from_numpy(image[rows] - first), len(ids)), ids)
            done(len(ids))
    return len(image_ids), len(order)


def _candidates(
    columns: dict[str, torch.Tensor], image: torch.Tensor, num_images: int
) -> Candidates:
    """Return candidates from their columns by name. ``image`` has the image of each of them."""
    extra = {name: columns[name] for name in EXTRA_COLUMNS if name in columns}
    labels = columns["labels"].long()
    source = columns["source"].long()
    return Candidates(
        columns["boxes"], columns["scores"], labels, image.long(), source, num_images, extra
    )


class _Entries:
    """Entries of results as columns of numbers, in the order of the file.

    Arrays of the module ``array`` grow without a Python object for each number.
    """

    def __init__(self, truth: Truth, name: str) -> None:
        self._name = name
        self._images = {image["id"]: position for position, image in enumerate(truth.images)}
        self._labels = {category.id: label for label, category in enumerate(truth.categories)}
        self._expected = f"one of {shown([category.id for category in truth.categories])}"
        self._counts = [0] * len(self._images)
        self._boxes = array("f")
        self._scores = array("f")
        self._integers = {name: array("i") for name in ("image", "labels", "source")}
        self._extra: dict[str, array[float]] = {}
        self._fields: set[str] | None = None

    def add(self, entry: Any) -> None:
        """Check an entry and append its numbers to the columns.

        Raises UserError that names the entry and the field if the entry is not valid.
        """
        index = len(self._scores)
        where = f"{self._name}: [{index}]"
        check_object(entry, where)
        image_id = read_field(entry, "image_id", read_id, self._images, "the id of an image", where)
        category = read_field(entry, "category_id", read_whole, self._labels, self._expected, where)
        x, y, width, height = read_bbox(entry.get("bbox"), f"{where}.bbox")
        # The first entry decides which extra columns there are, so they are filled after this.
        self._check_fields(entry, index)
        score = _numbers(entry.get("score"), 1, f"{where}.score")
        for name, column in self._extra.items():
            column.extend(_numbers(entry[name], EXTRA_COLUMNS[name].width, f"{where}.{name}"))
        image = self._images[image_id]
        source = self._source(entry, image, where)
        self._counts[image] += 1
        self._boxes.extend((x, y, x + width, y + height))
        self._scores.extend(score)
        integers = {"image": image, "labels": self._labels[category], "source": source}
        for name, value in integers.items():
            self._integers[name].append(value)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return all columns by the names of the fields of candidates and of the extra columns."""
        columns = {
            name: np.asarray(column) for name, column in (self._integers | self._extra).items()
        }
        for name in self._extra.keys() & {
            name for name, column in EXTRA_COLUMNS.items() if column.width > 1
        }:
            columns[name] = columns[name].reshape(-1, EXTRA_COLUMNS[name].width)
        return columns | {
            "boxes": np.asarray(self._boxes).reshape(-1, 4),
            "scores": np.asarray(self._scores),
        }

    def _source(self, entry: dict[str, Any], image: int, where: str) -> int:
        """Return the source of an entry. By default it counts the entries of the image."""
        if "source" not in (self._fields or ()):
            return self._counts[image]
        source = read_whole(entry["source"])
        if source is None or not 0 <= source <= _LARGEST_INT32:
            expected = f"an integer from 0 to {_LARGEST_INT32}"
            raise UserError(f"{where}.source: expected {expected}, got {shown(entry['source'])}")
        return source

    def _check_fields(self, entry: dict[str, Any], index: int) -> None:
        """Raise UserError for an unknown field, or for a field that only one of two entries has.

        All entries are compared with the first one.
        """
        if unknown := entry.keys() - _KNOWN:
            field = min(unknown)
            hint = nearest(field, sorted(_OPTIONAL | _COCO))
            raise UserError(
                f"{self._name}: [{index}].{shown_name(field)}: no such field of a result ({hint})"
            )
        fields = {name for name in entry.keys() & _OPTIONAL if entry[name] is not None}
        if self._fields is None:
            self._fields = fields
            self._extra = {name: array("f") for name in EXTRA_COLUMNS if name in fields}
        if fields != self._fields:
            field = min(fields ^ self._fields)
            without, having = (0, index) if field in fields else (index, 0)
            raise UserError(
                f"{self._name}: [{without}].{field}: expected as [{having}] has it, got nothing"
            )


def _numbers(value: Any, count: int, where: str) -> list[float]:
    """Return ``count`` finite numbers as a list. Raise UserError if the value is something else.

    A single number stands for itself. More than one are a list.
    """
    numbers = [value] if count == 1 else value
    if (
        not isinstance(numbers, list)
        or len(numbers) != count
        or not all(is_number(number) for number in numbers)
    ):
        expected = "a finite number" if count == 1 else f"{count} finite numbers"
        raise UserError(f"{where}: expected {expected}, got {shown(value)}")
    if max(numbers) > _LARGEST_FLOAT32 or min(numbers) < -_LARGEST_FLOAT32:
        raise UserError(f"{where}: expected what float32 can hold, got {shown(numbers)}")
    return numbers
