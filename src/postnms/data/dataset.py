"""What a data set is, whatever its format: categories, records of images, and the truth to evaluate against.

Labels 0..K-1 are positions in ``categories``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from postnms.data.image_files import load_image
from postnms.errors import UserError


@dataclass(frozen=True)
class Category:
    """A class of the data set: its COCO id and its name."""

    id: int
    name: str


@dataclass(frozen=True)
class Truth:
    """An annotation file: what results are evaluated against."""

    categories: tuple[Category, ...]
    """In the order of the labels."""
    content: dict[str, Any]
    """COCO's dict as it came, with ``area`` and ``iscrowd`` in every annotation."""
    source: str
    annotated: bool
    """False for a test split: its file has no ``annotations``."""


@dataclass(frozen=True)
class Record:
    """One image and its objects, to train on: boxes are clipped to the image, slivers (LEAST_SIDE) dropped."""

    id: int
    path: Path
    height: int
    width: int
    boxes: NDArray[np.float32]
    """(m, 4) xyxy, pixels."""
    labels: NDArray[np.int64]
    """(m,) 0..K-1."""
    crowd: NDArray[np.bool_]
    """(m,)."""
    pixels: NDArray[np.uint8] | None = None
    """(height, width, 3) if the image is made in memory."""

    def load(self) -> Image.Image:
        """The image, RGB. Raises UserError if it cannot be read or has another size than the annotations say."""
        if self.pixels is not None:
            return Image.fromarray(self.pixels)
        return load_image(self.path, size=(self.height, self.width))


@dataclass(frozen=True)
class CocoDataset:
    """A split: records in the order of the file, and the annotations as they came, to evaluate against."""

    categories: tuple[Category, ...]
    """In the order of the labels."""
    records: tuple[Record, ...]
    truth: dict[str, Any]
    """COCO's dict: ``images``, ``annotations``, ``categories``."""
    source: str
    annotated: bool = True
    """False for a test split: its file has no ``annotations``."""

    def with_label_map(self, categories: Sequence[Category]) -> "CocoDataset":
        """Labelled by another split's categories, of which this one's must be a subset, ids and names alike."""
        wanted = {category.id: (label, category) for label, category in enumerate(categories)}
        strangers = [c for c in self.categories if c.id not in wanted or wanted[c.id][1] != c]
        if strangers:
            named = ", ".join(f"{c.id} {c.name!r}" for c in strangers[:3])
            raise UserError(
                f"{self.source}: categories: expected a subset of "
                f"{[f'{c.id} {c.name}' for c in categories]}, got also {named}"
            )
        table = np.array([wanted[category.id][0] for category in self.categories], np.int64)
        records = tuple(replace(record, labels=table[record.labels]) for record in self.records)
        return replace(self, categories=tuple(categories), records=records)
