"""Images with their objects, on the way from a file format to the truth of a data set.

The readers of all formats but COCO give these. :func:`truth_of` turns them into the dict that COCO
has, so that whatever reads a truth works with every format.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from postnms.data.columns import Entries, ImageColumns, ObjectRows
from postnms.data.dataset import Category, Truth
from postnms.data.ids import Ids, Texts
from postnms.data.image_files import read_size
from postnms.errors import UserError, listed, shown_name


class AnnotatedBox(NamedTuple):
    """One object of an image."""

    bbox: list[float]
    """[x, y, width, height] in pixels, sides of at least 0."""
    category: int
    """The id of its class."""
    crowd: bool = False
    """True: it is neither trained on nor counted as missed."""


@dataclass(frozen=True)
class AnnotatedImage:
    """One image and its objects."""

    path: Path
    size: tuple[int, int]
    """(height, width) in pixels."""
    boxes: tuple[AnnotatedBox, ...]


def truth_of(
    images: Sequence[AnnotatedImage],
    categories: Sequence[Category],
    root: Path,
    source: str,
    *,
    annotated: bool = True,
) -> Truth:
    """Return the truth of some images, in their order.

    The id of an image is its path relative to ``root``, a string. So no two splits share an id.

    Args:
        images: the images. No path may be there twice.
        categories: the classes, in the order of the labels.
        root: the data folder.
        source: name of the annotations in messages.
        annotated: False for a test split without annotations.
    """
    names = [name_of(image.path, root) for image in images]
    ids = Ids.of(names)
    numbers = {category.id: number for number, category in enumerate(categories)}
    rows = ObjectRows(ids, [category.id for category in categories])
    for position, image in enumerate(images):
        for box in image.boxes:
            area = box.bbox[2] * box.bbox[3]
            rows.add(position, numbers[box.category], box.bbox, area, box.crowd)
    sizes = np.array([image.size for image in images], np.int32).reshape(-1, 2)
    content = {
        "images": Entries(ImageColumns(ids, Texts.of(names), sizes)),
        "annotations": Entries(rows.columns(range(1, len(rows) + 1))),
        "categories": [{"id": category.id, "name": category.name} for category in categories],
    }
    return Truth(tuple(categories), content, source, annotated)


def name_of(path: Path, root: Path) -> str:
    """Return the path of an image relative to the data folder, with slashes."""
    inside, top = Path(os.path.normpath(path)), Path(os.path.normpath(root))
    return (inside.relative_to(top) if inside.is_relative_to(top) else path).as_posix()


def sizes_of(paths: Sequence[Path], source: str) -> list[tuple[int, int]]:
    """Return (height, width) of image files from their headers.

    Raises UserError that counts the files that are missing or no images, and names the first ones.
    """
    sizes = []
    wrong = []
    for path in paths:
        try:
            sizes.append(read_size(path))
        except UserError:
            wrong.append(shown_name(path.name))
    if wrong:
        raise UserError(
            f"{source}: of {len(paths)} images {len(wrong)} are missing or unreadable "
            f"({listed(wrong)})"
        )
    return sizes
