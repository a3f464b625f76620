"""Candidates from a file of COCO results (https://cocodataset.org/#format-results), of whatever made them.

The list is read entry by entry into columns of numbers, about 32 bytes an entry: one of millions never lies in memory
as Python objects.
"""

from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from postnms.candidate_files.columns import EXTRA
from postnms.candidate_files.writer import CandidateWriter
from postnms.config import nearest
from postnms.data.dataset import Truth
from postnms.data.formats.coco import is_number, read_bbox
from postnms.errors import UserError
from postnms.files.json_stream import read_list
from postnms.structures import Candidates

_OPTIONAL = {"source", *EXTRA}
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
_KNOWN = _OPTIONAL | _COCO
"""Fields that an entry may have. Those of COCO that candidates do not need are read over."""
_IMAGES_AT_ONCE = 256
_LARGEST = float(np.finfo(np.float32).max)
_MOST = np.iinfo(np.int32).max


def import_results(
    results: Path,
    truth: Truth,
    annotations_name: str,
    out: Path,
    provenance: Mapping[str, Any],
    done: Callable[[int], None] = lambda images: None,
) -> tuple[int, int]:
    """Write results, plain or gzip, as a file of candidates; returns how many images and candidates it has.

    An entry may have ``source`` (default: its place among those of its image) and the fields of ``EXTRA``; a field
    that some have, all must have; one that is neither COCO's nor known here is an error. All images of ``truth`` are
    in the file, in its order, also those without an entry.
    ``done`` is called as images are written. Raises UserError that names the file, the entry and the field.
    """
    entries = _Entries(truth, results.name)
    for entry in read_list(results):
        entries.add(entry)
    columns = entries.columns()
    image = columns.pop("image")
    image_ids = [entry["id"] for entry in truth.content["images"]]
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
    extra = {name: columns[name] for name in EXTRA if name in columns}
    labels, source = columns["labels"].long(), columns["source"].long()
    return Candidates(
        columns["boxes"], columns["scores"], labels, image.long(), source, num_images, extra
    )


class _Entries:
    """Entries as columns, in the order of the file."""

    def __init__(self, truth: Truth, name: str) -> None:
        self._name = name
        self._images = {
            image["id"]: position for position, image in enumerate(truth.content["images"])
        }
        self._labels = {category.id: label for label, category in enumerate(truth.categories)}
        self._counts = [0] * len(self._images)
        self._boxes, self._scores = array("f"), array("f")
        self._integers = {name: array("i") for name in ("image", "labels", "source")}
        self._extra: dict[str, array[float]] = {}
        self._fields: set[str] | None = None

    def add(self, entry: Any) -> None:
        """Check an entry and put its numbers at the ends of the columns."""
        index = len(self._scores)
        where = f"{self._name}: [{index}]"
        if not isinstance(entry, dict):
            raise UserError(f"{where}: expected an object, got {type(entry).__name__}")
        image = _position(entry, "image_id", self._images, where)
        label = _position(entry, "category_id", self._labels, where)
        x, y, width, height = read_bbox(entry.get("bbox"), f"{where}.bbox")
        corners = (x, y, x + width, y + height)
        _check_size(corners, f"{where}.bbox")
        self._check_fields(entry, index)
        score = _numbers(entry.get("score"), 1, f"{where}.score")
        for name, column in self._extra.items():
            column.extend(_numbers(entry[name], EXTRA[name], f"{where}.{name}"))
        source = entry.get("source", self._counts[image])
        if type(source) is not int or not 0 <= source <= _MOST:
            raise UserError(
                f"{where}.source: expected an integer from 0 to {_MOST}, got {source!r}"
            )
        self._counts[image] += 1
        self._boxes.extend(corners)
        self._scores.extend(score)
        for name, value in (("image", image), ("labels", label), ("source", source)):
            self._integers[name].append(value)

    def columns(self) -> dict[str, NDArray[Any]]:
        """By the names that candidates have for them, and ``EXTRA``'s."""
        columns = {
            name: np.asarray(column) for name, column in (self._integers | self._extra).items()
        }
        for name in self._extra.keys() & {name for name, width in EXTRA.items() if width > 1}:
            columns[name] = columns[name].reshape(-1, EXTRA[name])
        return columns | {
            "boxes": np.asarray(self._boxes).reshape(-1, 4),
            "scores": np.asarray(self._scores),
        }

    def _check_fields(self, entry: dict[str, Any], index: int) -> None:
        if unknown := entry.keys() - _KNOWN:
            field = min(unknown)
            hint = nearest(field, sorted(_KNOWN))
            raise UserError(f"{self._name}: [{index}].{field}: no such field of a result ({hint})")
        fields = entry.keys() & _OPTIONAL
        if self._fields is None:
            self._fields = fields
            self._extra = {name: array("f") for name in EXTRA if name in fields}
        if fields != self._fields:
            field = min(fields ^ self._fields)
            without, having = (0, index) if field in fields else (index, 0)
            raise UserError(
                f"{self._name}: [{without}].{field}: expected as [{having}] has it, got nothing"
            )


def _position(entry: dict[str, Any], field: str, positions: dict[int, int], where: str) -> int:
    value = entry.get(field)
    if type(value) is not int or value not in positions:
        known = f"one of {list(positions)[:20]}" if field == "category_id" else "the id of an image"
        raise UserError(f"{where}.{field}: expected {known}, got {value!r}")
    return positions[value]


def _numbers(value: Any, count: int, where: str) -> list[float]:
    numbers = [value] if count == 1 else value
    if (
        not isinstance(numbers, list)
        or len(numbers) != count
        or not all(is_number(number) for number in numbers)
    ):
        wanted = "a finite number" if count == 1 else f"{count} finite numbers"
        raise UserError(f"{where}: expected {wanted}, got {value!r}")
    _check_size(numbers, where)
    return numbers


def _check_size(numbers: Any, where: str) -> None:
    if max(numbers) > _LARGEST or min(numbers) < -_LARGEST:
        raise UserError(f"{where}: expected what float32 can hold, got {list(numbers)}")
