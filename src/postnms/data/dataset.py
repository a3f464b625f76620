"""The structures of a data set, which are the same for every annotation format.

A data set has classes, images with their objects, and the truth for the evaluation. Labels 0..K-1
are positions in ``categories``. Labels and the ids of categories are translated only where data
come in (``postnms.data.formats``, ``postnms.data.targets``) and in the evaluation.

m: objects of an image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from postnms.data.image_files import MAX_PIXELS, load_image
from postnms.errors import UserError, shown

ImageId = int | str
"""The id of an image as the user's file has it. 1 and "1" are different ids."""


@dataclass(frozen=True)
class Category:
    """A class of the data set: its id in the annotations, and its name."""

    id: int
    name: str


@dataclass(frozen=True)
class Truth:
    """The annotations that results are evaluated against."""

    categories: tuple[Category, ...]
    """In the order of the labels."""
    content: dict[str, Any]
    """COCO's dict as it was read, with ``area`` and ``iscrowd`` in every annotation.

    Ids of images are integers or strings, those of categories are integers.
    """
    source: str
    """The file, or the name of the built-in data: for messages."""
    annotated: bool = True
    """False for a test split, whose file has no ``annotations``."""

    @property
    def images(self) -> list[dict[str, Any]]:
        """Entries of the images, in the order of the file."""
        return self.content["images"]

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """Entries of the objects, in the order of the file."""
        return self.content["annotations"]


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


@dataclass(frozen=True)
class Dataset:
    """One split of a data set: its images to train on, and its truth to evaluate against."""

    truth: Truth
    records: tuple[Record, ...]
    """In the order of the file."""

    @property
    def categories(self) -> tuple[Category, ...]:
        """In the order of the labels."""
        return self.truth.categories

    @property
    def source(self) -> str:
        """The file, or the name of the built-in data: for messages."""
        return self.truth.source

    @property
    def annotated(self) -> bool:
        """False for a test split, whose file has no ``annotations``."""
        return self.truth.annotated

    def with_label_map(self, categories: Sequence[Category]) -> "Dataset":
        """Return the split with the labels of another split.

        Raises UserError unless ``categories`` has all classes of this split, with the same ids
        and names.
        """
        label_of = {category: label for label, category in enumerate(categories)}
        strangers = [category for category in self.categories if category not in label_of]
        if strangers:
            named = ", ".join(f"{shown(c.id)} {shown(c.name)}" for c in strangers[:3])
            raise UserError(
                f"{self.source}: categories: expected a subset of "
                f"{shown([f'{c.id} {c.name}' for c in categories])}, got also {named}"
            )
        table = np.array([label_of[category] for category in self.categories], np.int64)
        records = tuple(replace(record, labels=table[record.labels]) for record in self.records)
        return Dataset(replace(self.truth, categories=tuple(categories)), records)
