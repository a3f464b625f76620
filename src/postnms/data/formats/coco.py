"""A reader of annotations in COCO format (https://cocodataset.org/#format-data).

Every field that the library needs is checked, and an error names the file and the field. Other
fields of images and annotations, such as polygons, are not kept. Labels 0..K-1 are positions in the
list of categories, sorted by id.

Ids of images are integers or strings, which are different ids even if they look alike: 1 and "1".
Ids of categories are integers. A whole number may be written as a float: 1.0 is read as 1. A field
that may be missing may also be null. The ids of annotations are not used, so they may be missing.
Where they are there, they are integers or strings, and no two are equal: a file with one id twice
usually lists objects twice, or was joined from others by mistake.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postnms.data.columns import Entries, ImageColumns, columns_of
from postnms.data.dataset import Category, Dataset, Truth
from postnms.data.formats.coco_objects import read_objects
from postnms.data.formats.fields import is_text, read_id, read_ids, read_whole
from postnms.data.formats.file_names import find_name
from postnms.data.ids import Ids, Texts
from postnms.data.records import FileRecords
from postnms.errors import UserError, shown
from postnms.files.json_files import LIMITS, JsonLimits
from postnms.files.json_lists import LongList, read_long_lists

logger = logging.getLogger(__name__)

LEAST_SIDE = 0.1
"""Shortest side, in pixels, of a box to train on.

A shorter box is usually the remnant of a box that the image border cuts. It vanishes when the image
is flipped or resized.
"""

LONGEST_SIDE = 2**31 - 1
"""Longest side of an image in pixels."""

FIELDS = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
}
"""The fields of images and annotations that are read."""

DEFAULT_ANNOTATIONS = "instances_val.json"
"""Name of the annotation file that is read from a folder, if no other name is given."""


def read_truth(annotations: Path, limits: JsonLimits = LIMITS) -> Truth:
    """Read an annotation file without its images. The id is the only field that an image needs.

    ``area`` and ``iscrowd`` may be missing. They are then width * height and 0. The list
    ``annotations`` may be missing too, as in the files of a test split.

    Args:
        annotations: the file.
        limits: the largest size of the file.

    Raises:
        UserError: the file does not exist, is larger than the limits, is malformed JSON, lacks a
            field or has a wrong one, uses an id twice, or refers to an id that no image or category
            has. The message names the file and the field.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "instances_test.json"
        ...     _ = file.write_text('{"images": [], "categories": [{"id": 7, "name": "cat"}]}')
        ...     truth = read_truth(file)
        >>> truth.categories
        (Category(id=7, name='cat'),)
        >>> truth.annotated
        False
    """
    if not annotations.is_file():
        raise UserError(f"{annotations}: no such annotation file")
    content = read_long_lists(annotations, FIELDS, limits)
    name = annotations.name
    if not isinstance(content, dict):
        raise UserError(f"{name}: expected an object, got {type(content).__name__}")
    annotated = content.get("annotations") is not None
    for key in ("images", "annotations", "categories") if annotated else ("images", "categories"):
        if not isinstance(content.get(key), list | LongList):
            came = type(content[key]).__name__ if key in content else "nothing"
            raise UserError(f"{name}: {key}: expected a list, got {came}")
    entries = list(content["images"])
    positions = read_ids(entries, f"{name}: images", read_id, "an integer or a string")
    image_ids = Ids.of(positions)
    categories = _read_categories(content["categories"], name)
    annotations_read = read_objects(
        content["annotations"] if annotated else [], categories, positions, image_ids, name
    )
    completed = {
        **content,
        "images": _images(entries, image_ids),
        "categories": [
            {**content["categories"][index], "id": i} for i, index in categories.items()
        ],
        "annotations": Entries(annotations_read),
    }
    named = (Category(i, content["categories"][categories[i]]["name"]) for i in sorted(categories))
    return Truth(tuple(named), completed, str(annotations), annotated)


def read_coco(annotations: Path, images: Path, limits: JsonLimits = LIMITS) -> Dataset:
    """Read an annotation file whose images lie in the folder ``images``. No image is opened yet.

    Boxes of the records are clipped to the image. Boxes with a side under :data:`LEAST_SIDE` are
    left out of the records, with a warning in the log. They stay in the truth.

    :func:`postnms.data.formats.file_names.find_image` says which file an image is. An image without
    a file is a record all the same.

    Raises:
        UserError: as for :func:`read_truth`, and also if the folder does not exist or an image has
            no file name or no size.
    """
    return add_images(read_truth(annotations, limits), images)


def add_images(truth: Truth, images: Path) -> Dataset:
    """Return the data set of a truth, whatever format it was read from, as :func:`read_coco` does.

    The images lie in the folder ``images``. Raises UserError if the folder does not exist or an
    image has no file name or no size.
    """
    name = Path(truth.source).name
    if not images.is_dir():
        raise UserError(f"{images}: no such folder of images (for {name})")
    columns = _image_columns(truth, name)
    objects = truth.objects
    labels = {category.id: label for label, category in enumerate(truth.categories)}
    table = np.array([labels.get(own, -1) for own in objects.category_ids], np.int64)
    # The objects of an image lie side by side, in the order of the file.
    order = np.argsort(objects.image, kind="stable")
    image, boxes = objects.image[order], objects.boxes[order]
    # The corners are added up and clipped in float64, so that they are rounded once.
    boxes[:, 2:] += boxes[:, :2]
    clipped, solid = clip_boxes(boxes, columns.sizes[image])
    if dropped := int((~solid).sum()):
        least = f"{LEAST_SIDE} px in their image"
        logger.warning("%s: %d boxes with a side under %s are not trained on", name, dropped, least)
    counts = np.bincount(image[solid], minlength=len(columns))
    records = FileRecords(
        columns.ids,
        images,
        Texts.of(find_name(images, file_name) for file_name in columns.names),
        columns.sizes,
        ends=np.append(0, counts.cumsum()),
        boxes=clipped[solid],
        labels=table[objects.category[order]][solid],
        crowd=objects.crowd[order][solid],
    )
    return Dataset(truth, records)


def open_annotations(data: Path, name: str | None = None, limits: JsonLimits = LIMITS) -> Truth:
    """Read the truth from an annotation file, or from a folder that holds one.

    Args:
        data: an annotation file or a folder.
        name: name of the annotation file in the folder. None: :data:`DEFAULT_ANNOTATIONS`. It has
            no effect if ``data`` is a file.
        limits: the largest size of the file.

    Raises:
        UserError: as for :func:`read_truth`.
    """
    return read_truth(data / (name or DEFAULT_ANNOTATIONS) if data.is_dir() else data, limits)


def _read_categories(entries: list[Any], name: str) -> dict[int, int]:
    """Check the categories, and return the position of each by its id.

    ``name`` is that of the file.
    """
    positions = read_ids(entries, f"{name}: categories", read_whole, "an integer")
    for index, entry in enumerate(entries):
        if not is_text(entry.get("name")):
            came = shown(entry.get("name"))
            raise UserError(f"{name}: categories[{index}].name: expected a string, got {came}")
    if not positions:
        raise UserError(f"{name}: categories: expected at least one, got none")
    return positions


def _images(entries: Sequence[Mapping[str, Any]], ids: Ids) -> Sequence[dict[str, Any]]:
    """Return the images as columns, or as dicts if not all of them have a file name and a size."""
    sizes = [(read_whole(entry["height"]), read_whole(entry["width"])) for entry in entries]
    named = all(isinstance(entry["file_name"], str) for entry in entries)
    if named and all(_is_side(side) for size in sizes for side in size):
        names = Texts.of(entry["file_name"] for entry in entries)
        return Entries(ImageColumns(ids, names, np.array(sizes, np.int32).reshape(-1, 2)))
    return [
        {"id": own, **{field: v for field, v in entry.items() if field != "id" and v is not None}}
        for own, entry in zip(ids, entries, strict=True)
    ]


def _image_columns(truth: Truth, name: str) -> ImageColumns:
    """Return the images as columns. Raise UserError if one of them has no file name or no size."""
    if (columns := columns_of(truth.images, ImageColumns)) is not None:
        return columns
    names, sizes = [], []
    for index, entry in enumerate(truth.images):
        where = f"{name}: images[{index}]"
        file_name = entry.get("file_name")
        if not isinstance(file_name, str):
            raise UserError(f"{where}.file_name: expected a string, got {shown(file_name)}")
        names.append(file_name)
        sides = ("height", "width")
        sizes.append([_side(entry.get(field), f"{where}.{field}") for field in sides])
    ids = Ids.of(entry["id"] for entry in truth.images)
    return ImageColumns(ids, Texts.of(names), np.array(sizes, np.int32).reshape(-1, 2))


def clip_boxes(
    boxes: NDArray[np.float64], sizes: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return boxes (m, 4) xyxy clipped to their images, and which are large enough to train on.

    These have no side under :data:`LEAST_SIDE`. ``sizes`` (m, 2) has height and width of the image
    of each box, or (2,) those of the one image.
    """
    limits = sizes[..., [1, 0, 1, 0]]
    clipped = np.clip(boxes, 0, limits).astype(np.float32)
    solid = np.all(clipped[:, 2:] - clipped[:, :2] >= LEAST_SIDE, axis=1)
    return clipped, solid


def _is_side(value: int | None) -> bool:
    """Return whether a value can be the length of a side of an image in pixels."""
    return value is not None and 0 < value <= LONGEST_SIDE


def _side(value: Any, where: str) -> int:
    """Return the length of a side of an image in pixels."""
    side = read_whole(value)
    if side is None or not _is_side(side):
        raise UserError(
            f"{where}: expected an integer from 1 to {LONGEST_SIDE}, got {shown(value)}"
        )
    return side
