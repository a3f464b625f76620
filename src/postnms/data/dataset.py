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

    def with_categories(self, categories: Sequence[Category]) -> "Truth":
        """Return the truth with the classes, and so with the labels, of another split.

        A class is the same if its id and its name are. Where the ids differ, the names decide, as
        long as no name is used twice: several exports of one data set number its classes anew. The
        annotations then get the ids of ``categories``.

        Raises UserError unless ``categories`` has all classes of this truth.
        """
        known = tuple(categories)
        if set(self.categories) <= set(known):
            return replace(self, categories=known)
        by_name = {category.name: category.id for category in known}
        own = [category.name for category in self.categories]
        strangers = [category for category in self.categories if category.name not in by_name]
        if strangers or len(by_name) < len(known) or len(set(own)) < len(own):
            odd = strangers or [category for category in self.categories if category not in known]
            named = ", ".join(f"{shown(c.id)} {shown(c.name)}" for c in odd[:3])
            raise UserError(
                f"{self.source}: categories: expected a subset of "
                f"{shown([f'{c.id} {c.name}' for c in known])}, got also {named}"
            )
        id_of = {category.id: by_name[category.name] for category in self.categories}
        content = {
            **self.content,
            "categories": [
                {**entry, "id": id_of[entry["id"]]}
                for entry in self.content["categories"]
                if entry["id"] in id_of
            ],
            "annotations": [
                {**entry, "category_id": id_of[entry["category_id"]]} for entry in self.annotations
            ],
        }
        return replace(self, categories=known, content=content)

    def without_category(self, name: str) -> "Truth":
        """Return the truth without the classes of a name, which have no object."""
        content = {
            **self.content,
            "categories": [e for e in self.content["categories"] if e["name"] != name],
        }
        kept = tuple(category for category in self.categories if category.name != name)
        return replace(self, categories=kept, content=content)

    def part(self, keep: Callable[[dict[str, Any]], bool]) -> "Truth":
        """Return the truth of the images for whose entries ``keep`` is true."""
        images = [entry for entry in self.images if keep(entry)]
        ids = {entry["id"] for entry in images}
        annotations = [entry for entry in self.annotations if entry["image_id"] in ids]
        content = {**self.content, "images": images, "annotations": annotations}
        return replace(self, content=content)


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
        """Return the split with the labels of another split, see :meth:`Truth.with_categories`.

        Raises UserError unless ``categories`` has all classes of this split.
        """
        truth = self.truth.with_categories(categories)
        label_of = {category: label for label, category in enumerate(truth.categories)}
        label_by_name = {category.name: label for category, label in label_of.items()}
        table = np.array(
            [label_of.get(own, label_by_name[own.name]) for own in self.categories], np.int64
        )
        records = tuple(replace(record, labels=table[record.labels]) for record in self.records)
        return Dataset(truth, records)
