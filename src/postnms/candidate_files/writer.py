"""Writer of files of candidates, which grow batch by batch.

:mod:`postnms.candidate_files.reader` describes the format.

n: candidates, B: images of a batch.
"""

import json
import math
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from postnms.candidate_files.columns import COLUMNS, FORMAT, FORMAT_OF_ANY_IDS, is_name
from postnms.candidate_files.metadata import About, read_about
from postnms.data.dataset import Category, ImageId
from postnms.errors import shown
from postnms.files.tensor_stream import TensorStream
from postnms.structures import Candidates, Detections


class CandidateWriter:
    """A file of candidates that is being written, with one batch in memory at a time.

    The writer is used in a ``with`` block. The file appears when the block ends. If the block
    fails, nothing is written, and an older file of that name is left as it was.

    Args:
        path: the file to write.
        categories: the classes in the order of the labels.
        annotations: the name of the annotations of the images. None: it is not known.
        provenance: facts about the origin of the candidates, which JSON can hold.

    Raises:
        ValueError: an argument has another form, or ``provenance`` holds NaN or infinity, which
            JSON cannot hold.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from postnms import Candidates
        >>> from postnms.candidate_files import CandidateWriter, open_candidates
        >>> from postnms.data.dataset import Category
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
        >>> scores = torch.tensor([0.9, 0.8])
        >>> zeros = torch.zeros(2, dtype=torch.int64)
        >>> batch = Candidates(boxes, scores, zeros, zeros, source=torch.arange(2), num_images=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "candidates.safetensors"
        ...     with CandidateWriter(path, [Category(1, "cell")], None, {}) as writer:
        ...         writer.add(batch, image_ids=[7])
        ...     for image_ids, candidates in open_candidates(path).chunks():
        ...         image_ids, candidates.boxes.tolist()
        ((7,), [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    """

    def __init__(
        self,
        path: Path,
        categories: Sequence[Category],
        annotations: str | None,
        provenance: Mapping[str, Any],
    ) -> None:
        about = About(tuple(categories), annotations, dict(provenance), {})
        # By way of its text, so that what cannot be read again is refused before the work begins.
        self._about = read_about(about.to_text(), "CandidateWriter")
        self._stream = TensorStream(path)
        # A dict keeps the order of its keys, and finds them as a set does.
        self._image_ids: dict[ImageId, None] = {}
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
        image_ids: Sequence[ImageId],
        rows: Mapping[str, Detections] | None = None,
        milliseconds: Mapping[str, float] | None = None,
    ) -> None:
        """Append the candidates of a batch of images.

        A batch that raises ValueError changes nothing, and other batches can follow.

        Args:
            candidates: candidates in original pixels, in any order.
            image_ids: the id of each image of the batch, an integer or a string.
            rows: detections of the same images, by the name of the row.
            milliseconds: the time that a row took for the whole batch, by the name of the row.

        Raises:
            ValueError: an id occurs twice in the file, a name is empty, very long or not printable,
                or the names and shapes of extra columns, rows and times differ from those of the
                batches before.
            UserError: the operating system refuses. The message names the file.
        """
        rows = rows or {}
        milliseconds = milliseconds or {}
        ids = [_own_id(image_id) for image_id in image_ids]
        counts = Counter(ids)
        if twice := [i for i, count in counts.items() if count > 1 or i in self._image_ids]:
            raise ValueError(
                f"add.image_ids: expected every image once, got {shown(twice[0])} again"
            )
        if odd := [name for name in (*rows, *candidates.extra) if not is_name(name)]:
            raise ValueError(
                f"add: expected short, printable names of rows and columns, got {shown(odd[0])}"
            )
        self._check_times(milliseconds)
        parts = {}
        for prefix, structure in {
            "": candidates,
            **{f"rows.{name}.": row for name, row in rows.items()},
        }.items():
            if structure.num_images != len(ids):
                raise ValueError(
                    f"add: {prefix}num_images: expected {len(ids)} ids, got {structure.num_images}"
                )
            parts |= self._parts(prefix, structure)
        self._stream.append(parts)
        self._image_ids |= dict.fromkeys(ids)
        self._milliseconds = {
            name: self._milliseconds.get(name, 0) + float(ms) for name, ms in milliseconds.items()
        }

    def _check_times(self, milliseconds: Mapping[str, float]) -> None:
        """Raise ValueError unless the times are finite and have the names of the batches before."""
        if (
            self._stream.rows("scores") is not None
            and milliseconds.keys() != self._milliseconds.keys()
        ):
            raise ValueError(
                f"add.milliseconds: expected {sorted(self._milliseconds)}, "
                f"got {sorted(milliseconds)}"
            )
        for name, spent in milliseconds.items():
            if not 0 <= spent < math.inf:
                raise ValueError(
                    f"add.milliseconds[{name!r}]: expected a finite number >= 0, got {spent}"
                )

    def _parts(self, prefix: str, structure: Candidates | Detections) -> dict[str, NDArray[Any]]:
        """Return the rows that a batch appends to the tensors under ``prefix``, sorted by image."""
        classes = len(self._about.categories)
        if bool((structure.labels >= classes).any()):
            raise ValueError(
                f"add: {prefix}labels: expected 0 to {classes - 1}, "
                f"got {int(structure.labels.max())}"
            )
        unfit = structure.source[(structure.source < 0) | (structure.source >= 2**31)]
        if len(unfit):
            raise ValueError(f"add: {prefix}source: expected 0 to {2**31 - 1}, got {int(unfit[0])}")
        columns = {name: getattr(structure, name) for name in COLUMNS}
        if isinstance(structure, Candidates):
            columns |= {f"extra.{name}": column for name, column in structure.extra.items()}
        # A stable sort keeps the order of the candidates of an image.
        order = structure.image.argsort(stable=True)
        ends = structure.image.bincount(minlength=structure.num_images).cumsum(0).cpu().numpy()
        # Offsets begin with a 0, which the first batch writes.
        before = self._stream.rows(prefix + "scores")
        parts = {"offsets": np.append(0, ends) if before is None else ends + before}
        for name, column in columns.items():
            parts[name] = column[order].cpu().numpy().astype(COLUMNS.get(name, "<f4"))
        return {prefix + name: part for name, part in parts.items()}

    def _finish(self) -> None:
        """Write the file with its metadata. Without any batch, the file has no candidates."""
        if self._stream.rows("scores") is None:
            none = torch.zeros(0, dtype=torch.int64)
            self.add(Candidates(torch.zeros(0, 4), torch.zeros(0), none, none, none, 0), ())
        images = max(len(self._image_ids), 1)
        means = {name: spent / images for name, spent in self._milliseconds.items()}
        form, image_ids = _id_tensor(list(self._image_ids))
        about = replace(self._about, milliseconds=means).to_text()
        self._stream.write({"format": form, "about": about}, {"image_ids": image_ids})


def _own_id(value: Any) -> ImageId:
    """Return an id as Python's own integer or string, for example an integer of NumPy."""
    try:
        return str(value) if isinstance(value, str) else operator.index(value)
    except TypeError as error:
        raise ValueError(
            f"add.image_ids: expected integers or strings, got {shown(value)}"
        ) from error


def _id_tensor(image_ids: list[ImageId]) -> tuple[str, NDArray[Any]]:
    """Return the format of the file and its tensor ``image_ids``."""
    if all(isinstance(i, int) and -(2**63) <= i < 2**63 for i in image_ids):
        return FORMAT, np.array(image_ids, "<i8")
    return FORMAT_OF_ANY_IDS, np.frombuffer(json.dumps(image_ids).encode(), np.uint8)
