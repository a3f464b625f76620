"""Reader of files with the candidates of a whole split, before suppression.

Such a file is one safetensors file, which is written and read as a stream. It has these tensors:

- ``boxes`` (n, 4) float32: x1, y1, x2, y2 in pixels of the original images.
- ``scores`` (n,) float32.
- ``labels`` (n,) int32: positions in the list of categories.
- ``source`` (n,) int32: as in :class:`postnms.Candidates`.
- ``image_ids`` (B,) int64: the id of each image. If an id is a string, or does not fit into 64
  bits, the tensor holds uint8 instead: the text of a JSON list of the ids, in UTF-8.
- ``offsets`` (B + 1,) int64: the candidates of image i, whose id is ``image_ids[i]``, are the rows
  ``offsets[i]:offsets[i + 1]``.
- ``extra.NAME`` (n,) or (n, c) float32: any number of further columns of the candidates.
- ``rows.NAME.boxes``, ``rows.NAME.scores``, ``rows.NAME.labels``, ``rows.NAME.source`` and
  ``rows.NAME.offsets``: the same five tensors of detections, for any number of rows. The images are
  those of ``image_ids``.

The metadata has two texts. ``format`` is the name of the format, which says how the ids are
written (``postnms.candidate_files.columns``). ``about`` is JSON with these fields:

- ``categories``: a list of objects with ``id`` and ``name``, in the order of the labels.
- ``annotations``: the name of the annotations of the images, or null.
- ``provenance``: an object that says where the candidates come from.
- ``milliseconds``: the mean time for an image, by the name of the row.

n: candidates, B: images of the file, b: images of a chunk.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from postnms.candidate_files.columns import COLUMNS, FORMAT, FORMAT_OF_ANY_IDS, is_name
from postnms.candidate_files.metadata import About, read_about
from postnms.config import nearest
from postnms.data.dataset import Category, ImageId
from postnms.errors import UserError, shown
from postnms.files.json_files import parse_json
from postnms.files.tensor_stream import KINDS
from postnms.structures import Candidates, Detections

RESULTS = (".json", ".json.gz")
"""Endings of files of COCO results. Files of candidates have any other one."""

_CHECKED_AT_ONCE = 1 << 20
"""Number of labels that are in memory together while a file is checked."""


@dataclass(frozen=True)
class CandidateFile:
    """A file of candidates that has been checked. Its boxes are read when they are asked for."""

    path: Path
    image_ids: tuple[ImageId, ...]
    """The id of each image as the user's annotations have it."""
    offsets: Tensor
    """(B + 1,) int64: the candidates of image i are rows ``offsets[i]:offsets[i + 1]``."""
    categories: tuple[Category, ...]
    """The classes, in the order of the labels."""
    annotations: str | None
    """Name of the annotations of the images. None: it is not known."""
    provenance: dict[str, Any]
    """Facts about the origin of the candidates."""
    milliseconds: Mapping[str, float]
    """Mean time for an image, by the name of the row."""
    rows: tuple[str, ...]
    """Names of the rows of detections, sorted."""
    extra: tuple[str, ...]
    """Names of the extra columns, sorted."""

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def num_candidates(self) -> int:
        """Number of candidates of all images together."""
        return int(self.offsets[-1])

    def chunks(self, images: int = 64) -> Iterator[tuple[tuple[ImageId, ...], Candidates]]:
        """Yield the candidates of all images in chunks, in the order of ``image_ids``.

        Args:
            images: number of images of a chunk, at least 1. The last chunk may have fewer.

        Yields:
            The ids of the images of a chunk, and their candidates. The column ``image`` counts
            within the chunk.

        Raises:
            ValueError: ``images`` is less than 1.
            UserError: the file holds values that candidates cannot have, for example NaN, or it
                cannot be read. The message names the file.
        """
        if images < 1:
            raise ValueError(f"chunks.images: expected at least 1, got {images}")
        with _open(self.path) as file:
            for start in range(0, len(self), images):
                ids = self.image_ids[start : start + images]
                yield ids, self._candidates(file, start, start + len(ids))

    def part(self, start: int, stop: int) -> tuple[Candidates, dict[str, Detections]]:
        """Return the candidates and all rows of the images ``start`` to ``stop - 1``.

        Positions are those in ``image_ids``, with 0 <= ``start`` <= ``stop`` <= the number of
        images. The columns ``image`` count within the part.

        Raises UserError as :meth:`chunks` and :meth:`row` do.
        """
        with _open(self.path) as file:
            rows = {}
            for name in self.rows:
                prefix = f"rows.{name}."
                offsets = file.get_slice(prefix + "offsets")[start : stop + 1]
                rows[name] = self._detections(name, _read(file, prefix, offsets), stop - start)
            return self._candidates(file, start, stop), rows

    def row(self, name: str) -> Detections:
        """Return the detections of one row for all images.

        Their column ``image`` is the position in ``image_ids``. Raises UserError that names the
        file if it has no such row, or if the row holds values that detections cannot have.
        """
        if name not in self.rows:
            valid = nearest(name, list(self.rows)) if self.rows else "it has none"
            raise UserError(f"{self.path}: no row {shown(name)} ({valid})")
        with _open(self.path) as file:
            columns = _read(file, f"rows.{name}.", file.get_tensor(f"rows.{name}.offsets"))
        return self._detections(name, columns, len(self))

    def _candidates(self, file: Any, start: int, stop: int) -> Candidates:
        """Read the candidates of some images from the open file."""
        offsets = self.offsets[start : stop + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        extra = {name: file.get_slice(f"extra.{name}")[rows].clone() for name in self.extra}
        columns = _read(file, "", offsets)
        try:
            return Candidates(**columns, num_images=stop - start, extra=extra)
        except ValueError as error:
            ids = self.image_ids[start:stop]
            raise UserError(
                f"{self.path}: images {shown(ids[0])} to {shown(ids[-1])}: {error}"
            ) from error

    def _detections(self, name: str, columns: dict[str, Any], images: int) -> Detections:
        """Return the columns of a row, of so many images, as detections."""
        try:
            return Detections(**columns, num_images=images)
        except ValueError as error:
            raise UserError(f"{self.path}: row {shown(name)}: {error}") from error


def open_candidates(path: Path) -> CandidateFile:
    """Open a file that :class:`postnms.candidate_files.CandidateWriter` wrote.

    The names, dtypes and shapes of the tensors are checked, and so are ids, offsets and labels.
    Boxes and scores are checked when they are read. The writer has an example.

    Raises UserError that names the file if it is missing or has another format.
    """
    if path.is_dir():
        hint = "'postnms dump' writes those of a run"
        raise UserError(f"{path}: expected a file of candidates, got a folder; {hint}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.name.endswith(RESULTS):
        hint = "'postnms import-candidates' makes one of COCO results"
        raise UserError(f"{path}: expected a file of candidates, got JSON; {hint}")
    with _open(path) as file:
        metadata = file.metadata() or {}
        form = metadata.get("format")
        if form not in (FORMAT, FORMAT_OF_ANY_IDS):
            expected = f"{FORMAT!r} or {FORMAT_OF_ANY_IDS!r}"
            raise UserError(f"{path}: expected format {expected}, got {shown(form)}")
        about = read_about(metadata.get("about", "null"), f"{path}: metadata 'about'")
        return _check_file(path, file, form, about)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a safetensors file within a block. Raise UserError if it cannot be read."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error!s:.200})") from error


def _read(file: Any, prefix: str, offsets: Tensor) -> dict[str, Any]:
    """Return the columns under ``prefix``, as arguments of the structures, for some images.

    ``offsets`` (b + 1,) are those of the images. The column ``image`` counts from 0 to b - 1.
    """
    rows = slice(int(offsets[0]), int(offsets[-1]))
    columns = {"image": torch.arange(len(offsets) - 1).repeat_interleave(offsets.diff())}
    for name in COLUMNS:
        column = file.get_slice(prefix + name)[rows]
        # A slice shares the memory of the mapped file. Without a copy, a later change of the file
        # would change the tensor.
        columns[name] = column.long() if column.dtype == torch.int32 else column.clone()
    return columns


def _check_file(path: Path, file: Any, form: str, about: About) -> CandidateFile:
    """Check the tensors of an open file, and return it. ``form`` is the name of its format."""
    names = sorted(file.keys())
    extra = tuple(name.removeprefix("extra.") for name in names if name.startswith("extra."))
    of_rows = [name.removeprefix("rows.") for name in names if name.startswith("rows.")]
    rows = sorted({name.rpartition(".")[0] for name in of_rows})
    if odd := [name for name in (*rows, *extra) if not is_name(name)]:
        raise UserError(
            f"{path}: expected short, printable names of rows and columns, got {shown(odd[0])}"
        )
    # The tensors of the candidates have no prefix.
    prefixes = ["", *(f"rows.{name}." for name in rows)]
    for name in (
        "image_ids",
        *(prefix + column for prefix in prefixes for column in ("offsets", *COLUMNS)),
    ):
        if name not in names:
            raise UserError(f"{path}: {name}: no such tensor")
    image_ids = _read_image_ids(path, file, form)
    for prefix in prefixes:
        _check_columns(path, file, prefix, len(image_ids), len(about.categories))
    offsets = file.get_tensor("offsets").clone()
    for name in extra:
        width = file.get_slice(f"extra.{name}").get_shape()[1:2]
        _check_tensor(path, file, f"extra.{name}", "F32", [int(offsets[-1]), *width])
    return CandidateFile(path, image_ids, offsets, **vars(about), rows=tuple(rows), extra=extra)


def _read_image_ids(path: Path, file: Any, form: str) -> tuple[ImageId, ...]:
    """Return the ids of the images, in the form of one of the two formats."""
    count = sum(file.get_slice("image_ids").get_shape()[:1])
    _check_tensor(path, file, "image_ids", "I64" if form == FORMAT else "U8", [count])
    ids = file.get_tensor("image_ids")
    if form == FORMAT:
        image_ids = ids.tolist()
    else:
        image_ids = parse_json(ids.numpy().tobytes(), f"{path}: image_ids")
        if not isinstance(image_ids, list) or not all(type(i) in (int, str) for i in image_ids):
            came = shown(image_ids)
            raise UserError(f"{path}: image_ids: expected integers and strings, got {came}")
    number, count = next(iter(Counter(image_ids).most_common(1)), (None, 0))
    if count > 1:
        raise UserError(f"{path}: image_ids: expected every image once, got {shown(number)} again")
    return tuple(image_ids)


def _check_columns(path: Path, file: Any, prefix: str, images: int, classes: int) -> None:
    """Raise UserError unless the offsets and columns under ``prefix`` fit together."""
    _check_tensor(path, file, prefix + "offsets", "I64", [images + 1])
    offsets = file.get_tensor(prefix + "offsets")
    # They are compared, since a difference of damaged numbers may overflow.
    if int(offsets[0]) != 0 or bool((offsets[1:] < offsets[:-1]).any()):
        raise UserError(f"{path}: {prefix}offsets: expected numbers that rise from 0")
    count = int(offsets[-1])
    for name, kind in COLUMNS.items():
        _check_tensor(
            path, file, prefix + name, KINDS[kind], [count, 4] if name == "boxes" else [count]
        )
    # Numbers are checked in pieces, so that memory does not hold those of a whole split.
    for name, end in (("labels", classes), ("source", 2**31)):
        column = file.get_slice(prefix + name)
        for start in range(0, count, _CHECKED_AT_ONCE):
            part = column[start : start + _CHECKED_AT_ONCE]
            least, most = (int(value) for value in part.aminmax())
            if least < 0 or most >= end:
                raise UserError(
                    f"{path}: {prefix}{name}: expected 0 to {end - 1}, got {least} to {most}"
                )


def _check_tensor(path: Path, file: Any, name: str, kind: str, shape: list[int]) -> None:
    """Raise UserError unless a tensor has the given dtype and shape.

    ``kind`` is the name that safetensors has for the dtype.
    """
    column = file.get_slice(name)
    if (column.get_dtype(), column.get_shape()) != (kind, shape):
        got = f"{column.get_dtype()} of {column.get_shape()}"
        raise UserError(f"{path}: {name}: expected {kind} of {shape}, got {got}")
