"""The structures of a data set, which are the same for every annotation format.

A data set has classes, images with their objects, and the truth for the evaluation. Labels 0..K-1
are positions in ``categories``. Labels and the ids of categories are translated only where data
come in (``postnms.data.formats``, ``postnms.data.targets``) and in the evaluation.

m: objects of an image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from postnms.data.columns import Entries, ImageColumns, ObjectColumns, columns_of, object_columns
from postnms.data.ids import Ids, ImageId
from postnms.data.records import Record, counts_of_records, take_records, with_labels
from postnms.errors import UserError, shown

__all__ = ["Category", "Dataset", "ImageId", "Record", "Truth"]


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
    """COCO's dict with the fields that are used, and with ``area`` and ``iscrowd`` in every
    annotation.

    Ids of images are integers or strings, those of categories are integers. The readers of files
    give ``images`` and ``annotations`` as :class:`postnms.data.columns.Entries`, which make each
    dict when it is asked for. Plain lists of dicts do as well.
    """
    source: str
    """The file, or the name of the built-in data: for messages."""
    annotated: bool = True
    """False for a test split, whose file has no ``annotations``."""

    @property
    def images(self) -> Sequence[dict[str, Any]]:
        """Entries of the images, in the order of the file."""
        return self.content["images"]

    @property
    def annotations(self) -> Sequence[dict[str, Any]]:
        """Entries of the objects, in the order of the file. :attr:`objects` has them as columns."""
        return self.content["annotations"]

    @cached_property
    def objects(self) -> ObjectColumns:
        """All annotations as columns of numbers, in the order of the file.

        Positions of images are those in ``images``, positions of classes those in
        ``content["categories"]``. Raises ValueError for an annotation of an image or a class that
        these do not list.
        """
        entries, images = self.annotations, self.images
        category_ids = tuple(entry["id"] for entry in self.content["categories"])
        columns, of_images = columns_of(entries, ObjectColumns), columns_of(images, ImageColumns)
        if columns is not None and of_images is not None and of_images.ids is columns.image_ids:
            return columns.with_category_ids(category_ids)
        return object_columns(entries, Ids.of(entry["id"] for entry in images), category_ids)

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
        named = [
            {**entry, "id": id_of[entry["id"]]}
            for entry in self.content["categories"]
            if entry["id"] in id_of
        ]
        columns = columns_of(self.annotations, ObjectColumns)
        if columns is None:
            annotations = [
                {**entry, "category_id": id_of[entry["category_id"]]} for entry in self.annotations
            ]
        else:
            ids = tuple(entry["id"] for entry in named)
            annotations = Entries(columns.with_category_ids(ids, id_of))
        content = {**self.content, "categories": named, "annotations": annotations}
        return replace(self, categories=known, content=content)

    def without_category(self, category_id: int) -> "Truth":
        """Return the truth without a class that has no object."""
        content = {
            **self.content,
            "categories": [e for e in self.content["categories"] if e["id"] != category_id],
        }
        kept = tuple(category for category in self.categories if category.id != category_id)
        return replace(self, categories=kept, content=content)

    def part(self, keep: Callable[[dict[str, Any]], bool]) -> "Truth":
        """Return the truth of the images for whose entries ``keep`` is true."""
        chosen = [keep(entry) for entry in self.images]
        rows = np.flatnonzero(np.array(chosen, np.bool_))
        columns = columns_of(self.images, ImageColumns)
        if columns is None:
            images = [self.images[row] for row in rows.tolist()]
            ids = Ids.of(entry["id"] for entry in images)
        else:
            columns = columns.take(rows)
            images, ids = Entries(columns), columns.ids
        objects = Entries(self.objects.of_images(rows, ids))
        return replace(self, content={**self.content, "images": images, "annotations": objects})


@dataclass(frozen=True)
class Dataset:
    """One split of a data set: its images to train on, and its truth to evaluate against."""

    truth: Truth
    records: Sequence[Record]
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
        return Dataset(truth, with_labels(self.records, table))

    def with_objects(self) -> "Dataset":
        """Return the split without the records of images that have no object to train on.

        Crowd regions are no objects. The truth stays as it is.
        """
        rows = np.flatnonzero(counts_of_records(self.records, crowd=False))
        return replace(self, records=take_records(self.records, rows))
