"""Candidates from a file of COCO results (https://cocodataset.org/#format-results), of whatever made them.

The list is read entry by entry into columns of numbers, about 32 bytes an entry: one of millions never lies in memory
as Python objects.
"""

import gzip
import json
import re
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray

from postnms.candidate_files.reader import CandidateWriter
from postnms.config import nearest
from postnms.data.formats.coco import Truth, is_number, read_bbox
from postnms.errors import UserError
from postnms.structures import Candidates

EXTRA = {"iou": 1, "density": 1, "edge_log_variance": 4, "model": 1}
"""Fields of an entry that become extra columns, and how many numbers each has."""

_OPTIONAL = {"source", *EXTRA}
_COCO = {"image_id", "category_id", "bbox", "score", "id", "area", "iscrowd", "segmentation", "keypoints"}
_KNOWN = _OPTIONAL | _COCO
"""Fields that an entry may have. Those of COCO that candidates do not need are read over."""
_IMAGES_AT_ONCE = 256
_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20
"""Characters read together."""
_CUT = 16
"""Where a text is cut off, the decoder stops at most so many characters before, with a mistake or half a number."""
_MARK = re.compile(r"[^ \t\n\r]")
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
    for entry in _read_list(results):
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


def _candidates(columns: dict[str, torch.Tensor], image: torch.Tensor, num_images: int) -> Candidates:
    extra = {name: columns[name] for name in EXTRA if name in columns}
    labels, source = columns["labels"].long(), columns["source"].long()
    return Candidates(columns["boxes"], columns["scores"], labels, image.long(), source, num_images, extra)


class _Entries:
    """Entries as columns, in the order of the file."""

    def __init__(self, truth: Truth, name: str) -> None:
        self._name = name
        self._images = {image["id"]: position for position, image in enumerate(truth.content["images"])}
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
            raise UserError(f"{where}.source: expected an integer from 0 to {_MOST}, got {source!r}")
        self._counts[image] += 1
        self._boxes.extend(corners)
        self._scores.extend(score)
        for name, value in (("image", image), ("labels", label), ("source", source)):
            self._integers[name].append(value)

    def columns(self) -> dict[str, NDArray[Any]]:
        """By the names that candidates have for them, and ``EXTRA``'s."""
        columns = {name: np.asarray(column) for name, column in (self._integers | self._extra).items()}
        for name in self._extra.keys() & {name for name, width in EXTRA.items() if width > 1}:
            columns[name] = columns[name].reshape(-1, EXTRA[name])
        return columns | {"boxes": np.asarray(self._boxes).reshape(-1, 4), "scores": np.asarray(self._scores)}

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
            raise UserError(f"{self._name}: [{without}].{field}: expected as [{having}] has it, got nothing")


def _position(entry: dict[str, Any], field: str, positions: dict[int, int], where: str) -> int:
    value = entry.get(field)
    if type(value) is not int or value not in positions:
        known = f"one of {list(positions)[:20]}" if field == "category_id" else "the id of an image"
        raise UserError(f"{where}.{field}: expected {known}, got {value!r}")
    return positions[value]


def _numbers(value: Any, count: int, where: str) -> list[float]:
    numbers = [value] if count == 1 else value
    if not isinstance(numbers, list) or len(numbers) != count or not all(is_number(number) for number in numbers):
        wanted = "a finite number" if count == 1 else f"{count} finite numbers"
        raise UserError(f"{where}: expected {wanted}, got {value!r}")
    _check_size(numbers, where)
    return numbers


def _check_size(numbers: Any, where: str) -> None:
    if max(numbers) > _LARGEST or min(numbers) < -_LARGEST:
        raise UserError(f"{where}: expected what float32 can hold, got {list(numbers)}")


def _read_list(path: Path) -> Iterator[Any]:
    """The entries of a JSON list one by one. Raises UserError that names the file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file of results")
    try:
        with path.open("rb") as file:
            packed = file.read(len(_GZIP)) == _GZIP
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig") as file:
            yield from _Text(file, path).entries()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: could not be read ({error})") from error


class _Text:
    """JSON read in pieces: what is left of the last ones, and how far it is decoded."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path = file, path
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._at, self._before = "", 0, 0

    def entries(self) -> Iterator[Any]:
        if (first := self._next()) != "[":
            came = f"text that begins with {first!r}" if first else "an empty file"
            raise UserError(f"{self._path}: expected a list of results, got {came}")
        self._at += 1
        mark = self._next()
        while mark != "]":
            yield self._value()
            if (mark := self._next()) not in (",", "]"):
                raise self._malformed("expected ',' or ']'")
            if mark == ",":
                self._at += 1
        self._at += 1
        if self._next():
            raise self._malformed("expected nothing after the list")

    def _next(self) -> str:
        """The next character that is no white space, which it moves to; an empty string at the end."""
        while True:
            if mark := _MARK.search(self._text, self._at):
                self._at = mark.start()
                return mark[0]
            self._at = len(self._text)
            if not self._more():
                return ""

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if not (self._is_cut(error) and self._more()):
                    raise self._malformed(error) from error
            else:
                if end + _CUT < len(self._text) or not self._more():
                    self._at = end
                    return value

    def _is_cut(self, error: Exception) -> bool:
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.pos + _CUT > len(self._text) or error.msg.startswith("Unterminated string")

    def _more(self) -> bool:
        read = self._file.read(max(_PIECE, len(self._text) - self._at))
        if read:
            self._before += self._at
            self._text, self._at = self._text[self._at :] + read, 0
        return bool(read)

    def _malformed(self, mistake: Exception | str) -> UserError:
        at, what = self._at, str(mistake)
        if isinstance(mistake, json.JSONDecodeError):
            at, what = mistake.pos, mistake.msg
        return UserError(f"{self._path}: malformed JSON ({what}: character {self._before + at})")
