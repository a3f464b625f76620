"""Files of the candidates of a whole split, before suppression: one safetensors file, written and read as a stream.

``boxes`` (n, 4) and ``scores`` (n,) are float32, ``labels`` and ``source`` (n,) int32. The candidates of image i, whose
id is ``image_ids[i]``, are rows ``offsets[i]:offsets[i + 1]``; both are int64, (B,) and (B + 1,). Beside them lie
``extra.NAME``, float32 (n,) or (n, c), and detections of the same images: each row has the same five columns, as
``rows.NAME.boxes`` and so on. Boxes are in original pixels. The metadata has ``format`` and ``about``: JSON of the
categories in the order of the labels, the name of the annotations, the provenance, and the milliseconds an image took.

n: candidates, B: images of the file, b: images of a chunk.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from postnms.config import nearest
from postnms.data.formats.coco import Category
from postnms.errors import UserError
from postnms.files.tensor_stream import KINDS, TensorStream
from postnms.structures import Candidates, Detections

FORMAT = "postnms-candidates-1"

_COLUMNS = {"boxes": np.dtype("<f4"), "scores": np.dtype("<f4"), "labels": np.dtype("<i4"), "source": np.dtype("<i4")}
_CHECKED_AT_ONCE = 1 << 20
"""Labels."""


class CandidateWriter:
    """Writes candidates batch by batch, with one batch in memory; the file is there when the ``with`` block ends.

    If the block fails, nothing is left, and an older file of that name is as it was.
    """

    def __init__(
        self, path: Path, categories: Sequence[Category], annotations: str | None, provenance: Mapping[str, Any]
    ) -> None:
        named = [{"id": category.id, "name": category.name} for category in categories]
        about = {"categories": named, "annotations": annotations, "provenance": dict(provenance)}
        self._about: dict[str, Any] = json.loads(json.dumps(about, allow_nan=False))
        self._stream = TensorStream(path)
        self._image_ids: set[int] = set()
        self._milliseconds: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stream:
            if kind is None:
                self._finish()

    def add(
        self,
        candidates: Candidates,
        image_ids: Sequence[int],
        rows: Mapping[str, Detections] | None = None,
        milliseconds: Mapping[str, float] | None = None,
    ) -> None:
        """Append a batch of images: candidates in any order; by name, rows and the time that each took for the batch.

        Raises ValueError if an id came before, or if the extra columns, rows or times are not those of the batches
        before; UserError that names the file if the operating system refuses.
        """
        milliseconds = milliseconds or {}
        twice = [number for number, count in Counter(image_ids).items() if count > 1 or number in self._image_ids]
        if twice:
            raise ValueError(f"add.image_ids: expected every image once, got {twice[0]} again")
        self._check_times(milliseconds)
        parts = {"image_ids": np.array(image_ids, "<i8")}
        structures = {"": candidates, **{f"rows.{name}.": row for name, row in (rows or {}).items()}}
        for prefix, structure in structures.items():
            if structure.num_images != len(image_ids):
                raise ValueError(f"add: {prefix}num_images: expected {len(image_ids)} ids, got {structure.num_images}")
            parts |= self._parts(prefix, structure)
        self._stream.append(parts)
        self._image_ids.update(image_ids)
        self._milliseconds = {name: self._milliseconds.get(name, 0) + float(ms) for name, ms in milliseconds.items()}

    def _check_times(self, milliseconds: Mapping[str, float]) -> None:
        if self._stream.rows("scores") is not None and milliseconds.keys() != self._milliseconds.keys():
            raise ValueError(f"add.milliseconds: expected {sorted(self._milliseconds)}, got {sorted(milliseconds)}")
        for name, spent in milliseconds.items():
            if not 0 <= spent < math.inf:
                raise ValueError(f"add.milliseconds[{name!r}]: expected a finite number >= 0, got {spent}")

    def _parts(self, prefix: str, structure: Candidates | Detections) -> dict[str, NDArray[Any]]:
        """What a batch adds to the tensors under ``prefix``, by image."""
        classes = len(self._about["categories"])
        if bool((structure.labels >= classes).any()):
            raise ValueError(f"add: {prefix}labels: expected 0 to {classes - 1}, got {int(structure.labels.max())}")
        if not torch.equal(structure.source.int().long(), structure.source):
            raise ValueError(
                f"add: {prefix}source: expected values that int32 holds, got {int(structure.source.max())}"
            )
        columns = {name: getattr(structure, name) for name in _COLUMNS}
        if isinstance(structure, Candidates):
            columns |= {f"extra.{name}": column for name, column in structure.extra.items()}
        order = structure.image.argsort(stable=True)
        ends = structure.image.bincount(minlength=structure.num_images).cumsum(0).cpu().numpy()
        before = self._stream.rows(prefix + "scores")
        parts = {"offsets": np.append(0, ends) if before is None else ends + before}
        for name, column in columns.items():
            parts[name] = column[order].cpu().numpy().astype(_COLUMNS.get(name, "<f4"))
        return {prefix + name: part for name, part in parts.items()}

    def _finish(self) -> None:
        if self._stream.rows("scores") is None:
            none = torch.zeros(0, dtype=torch.int64)
            self.add(Candidates(torch.zeros(0, 4), torch.zeros(0), none, none, none, 0), ())
        images = max(len(self._image_ids), 1)
        means = {name: spent / images for name, spent in self._milliseconds.items()}
        self._stream.write({"format": FORMAT, "about": json.dumps(self._about | {"milliseconds": means})})


@dataclass(frozen=True)
class CandidateFile:
    """A file of candidates, as :func:`open_candidates` found it; boxes are read when asked for."""

    path: Path
    image_ids: tuple[int, ...]
    offsets: Tensor
    """(B + 1,) int64: the candidates of image i are rows ``offsets[i]:offsets[i + 1]``."""
    categories: tuple[Category, ...]
    """In the order of the labels."""
    annotations: str | None
    """Name of the annotations that the images are of."""
    provenance: dict[str, Any]
    milliseconds: dict[str, float]
    """Mean time an image, by row."""
    rows: tuple[str, ...]
    extra: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def num_candidates(self) -> int:
        """Of all images."""
        return int(self.offsets[-1])

    def chunks(self, images: int = 64) -> Iterator[tuple[tuple[int, ...], Candidates]]:
        """(ids, candidates) of ``images`` images after another, in order; the last chunk may have fewer.

        Raises UserError that names the file if it holds what candidates cannot be, for one NaN.
        """
        if images < 1:
            raise ValueError(f"chunks.images: expected at least 1, got {images}")
        with _open(self.path) as file:
            for start in range(0, len(self), images):
                ids = self.image_ids[start : start + images]
                offsets = self.offsets[start : start + len(ids) + 1]
                rows = slice(int(offsets[0]), int(offsets[-1]))
                extra = {name: file.get_slice(f"extra.{name}")[rows].clone() for name in self.extra}
                columns = _read(file, "", offsets)
                try:
                    candidates = Candidates(**columns, num_images=len(ids), extra=extra)
                except ValueError as error:
                    raise UserError(f"{self.path}: images {ids[0]} to {ids[-1]}: {error}") from error
                yield ids, candidates

    def row(self, name: str) -> Detections:
        """A row over all images: ``image`` is the position in ``image_ids``."""
        if name not in self.rows:
            valid = nearest(name, list(self.rows)) if self.rows else "it has none"
            raise UserError(f"{self.path}: no row {name!r} ({valid})")
        with _open(self.path) as file:
            columns = _read(file, f"rows.{name}.", file.get_tensor(f"rows.{name}.offsets"))
        try:
            return Detections(**columns, num_images=len(self))
        except ValueError as error:
            raise UserError(f"{self.path}: row {name!r}: {error}") from error


def open_candidates(path: Path) -> CandidateFile:
    """Open what :class:`CandidateWriter` wrote. Raises UserError that names the file if it is missing or not that."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with _open(path) as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise UserError(f"{path}: expected format {FORMAT!r}, got {metadata.get('format')!r}")
        try:
            about = json.loads(metadata["about"])
            categories = tuple(Category(entry["id"], entry["name"]) for entry in about["categories"])
            facts = {name: about[name] for name in ("annotations", "provenance", "milliseconds")}
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: metadata 'about': not what a CandidateWriter writes ({error!r})") from error
        return _check_file(path, file, categories, facts)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error


def _read(file: Any, prefix: str, offsets: Tensor) -> dict[str, Tensor]:
    """The columns under ``prefix`` of the b images between ``offsets``, (b + 1,), as the structures have them."""
    rows = slice(int(offsets[0]), int(offsets[-1]))
    columns = {"image": torch.arange(len(offsets) - 1).repeat_interleave(offsets.diff())}
    for name in _COLUMNS:
        column = file.get_slice(prefix + name)[rows]
        columns[name] = column.long() if column.dtype == torch.int32 else column.clone()
    return columns


def _check_file(path: Path, file: Any, categories: tuple[Category, ...], facts: dict[str, Any]) -> CandidateFile:
    names = sorted(file.keys())
    extra = tuple(name.removeprefix("extra.") for name in names if name.startswith("extra."))
    rows = {name.removeprefix("rows.").rpartition(".")[0] for name in names if name.startswith("rows.")}
    prefixes = ["", *(f"rows.{name}." for name in sorted(rows))]
    for name in ("image_ids", *(prefix + column for prefix in prefixes for column in ("offsets", *_COLUMNS))):
        if name not in names:
            raise UserError(f"{path}: {name}: no such tensor")
    images = sum(file.get_slice("image_ids").get_shape()[:1])
    _check_tensor(path, file, "image_ids", "I64", [images])
    image_ids = tuple(file.get_tensor("image_ids").tolist())
    if len(set(image_ids)) < images:
        twice = Counter(image_ids).most_common(1)[0][0]
        raise UserError(f"{path}: image_ids: expected every image once, got {twice} again")
    for prefix in prefixes:
        _check_columns(path, file, prefix, images, len(categories))
    offsets = file.get_tensor("offsets").clone()
    for name in extra:
        width = file.get_slice(f"extra.{name}").get_shape()[1:2]
        _check_tensor(path, file, f"extra.{name}", "F32", [int(offsets[-1]), *width])
    return CandidateFile(path, image_ids, offsets, categories, **facts, rows=tuple(sorted(rows)), extra=extra)


def _check_columns(path: Path, file: Any, prefix: str, images: int, classes: int) -> None:
    _check_tensor(path, file, prefix + "offsets", "I64", [images + 1])
    offsets = file.get_tensor(prefix + "offsets")
    if int(offsets[0]) != 0 or bool((offsets.diff() < 0).any()):
        raise UserError(f"{path}: {prefix}offsets: expected numbers that rise from 0")
    count = int(offsets[-1])
    for name, kind in _COLUMNS.items():
        _check_tensor(path, file, prefix + name, KINDS[kind], [count, 4] if name == "boxes" else [count])
    labels = file.get_slice(prefix + "labels")
    for start in range(0, count, _CHECKED_AT_ONCE):
        least, most = (int(value) for value in labels[start : start + _CHECKED_AT_ONCE].aminmax())
        if least < 0 or most >= classes:
            raise UserError(f"{path}: {prefix}labels: expected 0 to {classes - 1}, got {least} to {most}")


def _check_tensor(path: Path, file: Any, name: str, kind: str, shape: list[int]) -> None:
    column = file.get_slice(name)
    if (column.get_dtype(), column.get_shape()) != (kind, shape):
        came = f"{column.get_dtype()} of {column.get_shape()}"
        raise UserError(f"{path}: {name}: expected {kind} of {shape}, got {came}")
