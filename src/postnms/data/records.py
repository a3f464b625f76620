"""The images of a split to train on: one record each, made of columns when it is asked for.

B: images, M: objects of all images, m: objects of one image.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from postnms.data.ids import Ids, ImageId, Texts
from postnms.data.image_files import MAX_PIXELS, load_image
from postnms.errors import UserError


@dataclass(frozen=True)
class Record:
    """One image and its objects, to train on.

    Boxes are clipped to the image. Degenerate boxes are left out.
    """

    id: ImageId
    path: Path
    height: int
    width: int
    boxes: NDArray[np.float32]
    """(m, 4) xyxy, pixels."""
    labels: NDArray[np.int64]
    """(m,) 0..K-1."""
    crowd: NDArray[np.bool_]
    """(m,). True: the box covers a group of objects."""
    pixels: NDArray[np.uint8] | None = None
    """(height, width, 3) where the image is made in memory, else None."""
    source: Callable[[], Image.Image] | None = None
    """Gives the RGB image where it is an item of the user's own sequence, else None."""

    @property
    def has_file(self) -> bool:
        """Whether the image is the file at ``path``."""
        return self.pixels is None and self.source is None

    def load(self, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Return the image in RGB.

        Raises UserError if it cannot be read, has more pixels than ``max_pixels``, or has another
        size than the annotations say.
        """
        if self.pixels is not None:
            return Image.fromarray(self.pixels)
        if self.source is not None:
            return self._of_source(self.source)
        return load_image(self.path, size=(self.height, self.width), max_pixels=max_pixels)

    def _of_source(self, source: Callable[[], Image.Image]) -> Image.Image:
        image = source()
        if (image.height, image.width) != (self.height, self.width):
            raise UserError(
                f"{self.path}: expected {self.width} x {self.height} px as when it was first read, "
                f"got {image.width} x {image.height}"
            )
        return image


@dataclass(frozen=True, eq=False)
class FileRecords(Sequence[Record]):
    """The records of image files, as columns. The objects of an image lie side by side."""

    ids: Ids
    """B ids."""
    folder: Path
    """The folder that the names begin in."""
    names: Texts
    """B names of files."""
    sizes: NDArray[np.int32]
    """(B, 2) height and width in pixels."""
    ends: NDArray[np.int64]
    """(B + 1,) 0, and the row behind the last object of each image."""
    boxes: NDArray[np.float32]
    """(M, 4) xyxy, pixels, clipped to their image."""
    labels: NDArray[np.int64]
    """(M,) 0..K-1."""
    crowd: NDArray[np.bool_]
    """(M,). True: the box covers a group of objects."""

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Record | list[Record]:
        chosen = range(len(self))[index]
        if isinstance(chosen, range):
            return [self[row] for row in chosen]
        height, width = self.sizes[chosen].tolist()
        rows = slice(int(self.ends[chosen]), int(self.ends[chosen + 1]))
        # Copies can be written to, which torch asks of the memory of its tensors.
        boxes, labels = self.boxes[rows].copy(), self.labels[rows].copy()
        path = self.folder / self.names[chosen]
        own = self.ids[chosen]
        return Record(own, path, height, width, boxes, labels, self.crowd[rows].copy())

    def __iter__(self) -> Iterator[Record]:
        return (self[row] for row in range(len(self)))

    def with_labels(self, table: NDArray[np.int64]) -> "FileRecords":
        """Return the records with label ``table[label]`` in place of each label."""
        return replace(self, labels=table[self.labels])

    def take(self, rows: NDArray[np.int64]) -> "FileRecords":
        """Return the records of some images, in rising order of their rows."""
        counts = np.diff(self.ends)
        chosen = np.zeros(len(self), np.bool_)
        chosen[rows] = True
        objects = chosen.repeat(counts)
        return replace(
            self,
            ids=self.ids.take(rows),
            names=self.names.take(rows),
            sizes=self.sizes[rows],
            ends=np.append(0, counts[rows].cumsum()),
            boxes=self.boxes[objects],
            labels=self.labels[objects],
            crowd=self.crowd[objects],
        )


def sizes_of_records(records: Sequence[Record]) -> NDArray[np.int32]:
    """Return (B, 2) height and width in pixels."""
    if isinstance(records, FileRecords):
        return records.sizes
    sizes = [(record.height, record.width) for record in records]
    return np.array(sizes, np.int32).reshape(-1, 2)


def counts_of_records(records: Sequence[Record], *, crowd: bool = True) -> NDArray[np.int64]:
    """Return (B,) the number of boxes of each image. ``crowd`` counts crowd regions too."""
    if isinstance(records, FileRecords):
        counted = np.append(0, (crowd | ~records.crowd).cumsum())
        return np.diff(counted[records.ends])
    counts = [int((crowd | ~record.crowd).sum()) for record in records]
    return np.array(counts, np.int64)


def with_labels(records: Sequence[Record], table: NDArray[np.int64]) -> Sequence[Record]:
    """Return records with label ``table[label]`` in place of each label."""
    if isinstance(records, FileRecords):
        return records.with_labels(table)
    return tuple(replace(record, labels=table[record.labels]) for record in records)


def take_records(records: Sequence[Record], rows: NDArray[np.int64]) -> Sequence[Record]:
    """Return some of the records, in rising order of their rows."""
    if isinstance(records, FileRecords):
        return records.take(rows)
    return tuple(records[row] for row in rows.tolist())
