"""Writing a file of candidates as a stream."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from postnms.candidate_files.columns import _COLUMNS, FORMAT
from postnms.data.dataset import Category
from postnms.files.tensor_stream import TensorStream
from postnms.structures import Candidates, Detections


class CandidateWriter:
    """Writes candidates batch by batch, with one batch in memory; the file is there when the ``with`` block ends.

    If the block fails, nothing is left, and an older file of that name is as it was.
    """

    def __init__(
        self,
        path: Path,
        categories: Sequence[Category],
        annotations: str | None,
        provenance: Mapping[str, Any],
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
        twice = [
            number
            for number, count in Counter(image_ids).items()
            if count > 1 or number in self._image_ids
        ]
        if twice:
            raise ValueError(f"add.image_ids: expected every image once, got {twice[0]} again")
        self._check_times(milliseconds)
        parts = {"image_ids": np.array(image_ids, "<i8")}
        structures = {
            "": candidates,
            **{f"rows.{name}.": row for name, row in (rows or {}).items()},
        }
        for prefix, structure in structures.items():
            if structure.num_images != len(image_ids):
                raise ValueError(
                    f"add: {prefix}num_images: expected {len(image_ids)} ids, got {structure.num_images}"
                )
            parts |= self._parts(prefix, structure)
        self._stream.append(parts)
        self._image_ids.update(image_ids)
        self._milliseconds = {
            name: self._milliseconds.get(name, 0) + float(ms) for name, ms in milliseconds.items()
        }

    def _check_times(self, milliseconds: Mapping[str, float]) -> None:
        if (
            self._stream.rows("scores") is not None
            and milliseconds.keys() != self._milliseconds.keys()
        ):
            raise ValueError(
                f"add.milliseconds: expected {sorted(self._milliseconds)}, got {sorted(milliseconds)}"
            )
        for name, spent in milliseconds.items():
            if not 0 <= spent < math.inf:
                raise ValueError(
                    f"add.milliseconds[{name!r}]: expected a finite number >= 0, got {spent}"
                )

    def _parts(self, prefix: str, structure: Candidates | Detections) -> dict[str, NDArray[Any]]:
        """What a batch adds to the tensors under ``prefix``, by image."""
        classes = len(self._about["categories"])
        if bool((structure.labels >= classes).any()):
            raise ValueError(
                f"add: {prefix}labels: expected 0 to {classes - 1}, got {int(structure.labels.max())}"
            )
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
        self._stream.write(
            {"format": FORMAT, "about": json.dumps(self._about | {"milliseconds": means})}
        )
