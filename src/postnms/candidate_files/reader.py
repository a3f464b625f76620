"""Files of the candidates of a whole split, before suppression: one safetensors file, written and read as a stream.

``boxes`` (n, 4) and ``scores`` (n,) are float32, ``labels`` and ``source`` (n,) int32. The candidates of image i, whose
id is ``image_ids[i]``, are rows ``offsets[i]:offsets[i + 1]``; both are int64, (B,) and (B + 1,). Beside them lie
``extra.NAME``, float32 (n,) or (n, c), and detections of the same images: each row has the same five columns, as
``rows.NAME.boxes`` and so on. Boxes are in original pixels. The metadata has ``format`` and ``about``: JSON of the
categories in the order of the labels, the name of the annotations, the provenance, and the milliseconds an image took.

n: candidates, B: images of the file, b: images of a chunk.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from postnms.candidate_files.columns import _COLUMNS, FORMAT
from postnms.config import nearest
from postnms.data.dataset import Category
from postnms.errors import UserError
from postnms.files.tensor_stream import KINDS
from postnms.structures import Candidates, Detections

_CHECKED_AT_ONCE = 1 << 20
"""Labels."""


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
                    raise UserError(
                        f"{self.path}: images {ids[0]} to {ids[-1]}: {error}"
                    ) from error
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
            categories = tuple(
                Category(entry["id"], entry["name"]) for entry in about["categories"]
            )
            facts = {name: about[name] for name in ("annotations", "provenance", "milliseconds")}
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: metadata 'about': not what a CandidateWriter writes ({error!r})"
            ) from error
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


def _check_file(
    path: Path, file: Any, categories: tuple[Category, ...], facts: dict[str, Any]
) -> CandidateFile:
    names = sorted(file.keys())
    extra = tuple(name.removeprefix("extra.") for name in names if name.startswith("extra."))
    rows = {
        name.removeprefix("rows.").rpartition(".")[0] for name in names if name.startswith("rows.")
    }
    prefixes = ["", *(f"rows.{name}." for name in sorted(rows))]
    for name in (
        "image_ids",
        *(prefix + column for prefix in prefixes for column in ("offsets", *_COLUMNS)),
    ):
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
    return CandidateFile(
        path, image_ids, offsets, categories, **facts, rows=tuple(sorted(rows)), extra=extra
    )


def _check_columns(path: Path, file: Any, prefix: str, images: int, classes: int) -> None:
    _check_tensor(path, file, prefix + "offsets", "I64", [images + 1])
    offsets = file.get_tensor(prefix + "offsets")
    if int(offsets[0]) != 0 or bool((offsets.diff() < 0).any()):
        raise UserError(f"{path}: {prefix}offsets: expected numbers that rise from 0")
    count = int(offsets[-1])
    for name, kind in _COLUMNS.items():
        _check_tensor(
            path, file, prefix + name, KINDS[kind], [count, 4] if name == "boxes" else [count]
        )
    labels = file.get_slice(prefix + "labels")
    for start in range(0, count, _CHECKED_AT_ONCE):
        least, most = (int(value) for value in labels[start : start + _CHECKED_AT_ONCE].aminmax())
        if least < 0 or most >= classes:
            raise UserError(
                f"{path}: {prefix}labels: expected 0 to {classes - 1}, got {least} to {most}"
            )


def _check_tensor(path: Path, file: Any, name: str, kind: str, shape: list[int]) -> None:
    column = file.get_slice(name)
    if (column.get_dtype(), column.get_shape()) != (kind, shape):
        came = f"{column.get_dtype()} of {column.get_shape()}"
        raise UserError(f"{path}: {name}: expected {kind} of {shape}, got {came}")
