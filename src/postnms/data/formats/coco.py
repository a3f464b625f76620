"""A reader of annotations in COCO format (https://cocodataset.org/#format-data).

Every field that the library needs is checked, and an error names the file and the field. All other
fields are kept as they are. Labels 0..K-1 are positions in the list of categories, sorted by id.

Ids of images are integers or strings, which are different ids even if they look alike: 1 and "1".
Ids of categories are integers. A whole number may be written as a float: 1.0 is read as 1. A field
that may be missing may also be null. The ids of annotations are not used, so they may be missing.
Where they are there, they are integers or strings, and no two are equal: a file with one id twice
usually lists objects twice, or was joined from others by mistake.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postnms.data.dataset import Category, Dataset, ImageId, Record, Truth
from postnms.data.formats.fields import (
    check_object,
    check_unique,
    is_number,
    is_text,
    read_bbox,
    read_field,
    read_id,
    read_ids,
    read_whole,
)
from postnms.data.formats.file_names import find_image
from postnms.errors import UserError, shown
from postnms.files.json_files import LIMITS, JsonLimits, read_json

logger = logging.getLogger(__name__)

LEAST_SIDE = 0.1
"""Shortest side, in pixels, of a box to train on.

A shorter box is usually the remnant of a box that the image border cuts. It vanishes when the image
is flipped or resized.
"""

LONGEST_SIDE = 2**31 - 1
"""Longest side of an image in pixels."""

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
    content = read_json(annotations, limits)
    name = annotations.name
    if not isinstance(content, dict):
        raise UserError(f"{name}: expected an object, got {type(content).__name__}")
    annotated = content.get("annotations") is not None
    for key in ("images", "annotations", "categories") if annotated else ("images", "categories"):
        if not isinstance(content.get(key), list):
            came = type(content[key]).__name__ if key in content else "nothing"
            raise UserError(f"{name}: {key}: expected a list, got {came}")
    images = read_ids(content["images"], f"{name}: images", read_id, "an integer or a string")
    categories = _read_categories(content["categories"], name)
    labels = sorted(categories)
    completed = {
        **content,
        "images": [{**content["images"][index], "id": i} for i, index in images.items()],
        "categories": [
            {**content["categories"][index], "id": i} for i, index in categories.items()
        ],
        "annotations": _read_annotations(
            content["annotations"] if annotated else [], labels, images, name
        ),
    }
    named = tuple(Category(i, content["categories"][categories[i]]["name"]) for i in labels)
    return Truth(named, completed, str(annotations), annotated)


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
    objects = _objects(truth)
    records, dropped = [], 0
    for index, entry in enumerate(truth.images):
        record, lost = _record(
            entry, objects.get(entry["id"], []), images, f"{name}: images[{index}]"
        )
        records.append(record)
        dropped += lost
    if dropped:
        least = f"{LEAST_SIDE} px in their image"
        logger.warning("%s: %d boxes with a side under %s are not trained on", name, dropped, least)
    return Dataset(truth, tuple(records))


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


def _read_annotations(
    entries: list[Any], labels: list[int], images: dict[ImageId, int], name: str
) -> list[dict[str, Any]]:
    """Return the annotations with all fields that the evaluation reads.

    Raises UserError unless every annotation has valid fields and refers to existing ids.
    ``labels`` has the ids of the categories in rising order.
    """
    known = set(labels)
    expected = f"one of {shown(labels)}"
    used: dict[ImageId, int] = {}
    completed = []
    for index, entry in enumerate(entries):
        where = f"{name}: annotations[{index}]"
        check_object(entry, where)
        if (own := entry.get("id")) is not None:
            own = read_id(own)
            if own is None:
                came = shown(entry["id"])
                raise UserError(f"{where}.id: expected an integer or a string, got {came}")
            check_unique(own, used, index, f"{name}: annotations")
            used[own] = index
        category = read_field(entry, "category_id", read_whole, known, expected, where)
        image = read_field(entry, "image_id", read_id, images, "the id of an image", where)
        bbox = read_bbox(entry.get("bbox"), f"{where}.bbox")
        read = {
            "image_id": image,
            "category_id": category,
            "area": _area(entry.get("area"), bbox, where),
            "iscrowd": _crowd(entry.get("iscrowd"), where),
        }
        completed.append({**entry, **read})
    return completed


def _area(value: Any, bbox: list[float], where: str) -> float:
    """Return the area of an annotation: that of its box if it has none of its own."""
    if value is None:
        return bbox[2] * bbox[3]
    # COCO's evaluation would leave an object of another area out of all figures.
    if not is_number(value) or value < 0:
        raise UserError(f"{where}.area: expected a finite number >= 0, got {shown(value)}")
    return value


def _crowd(value: Any, where: str) -> int:
    """Return 1 for a crowd region, 0 for an object and if nothing is said."""
    if value is None:
        return 0
    if value not in (0, 1):
        raise UserError(f"{where}.iscrowd: expected 0 or 1, got {shown(value)}")
    return int(value)


def _objects(truth: Truth) -> dict[ImageId, list[tuple[list[float], int, bool]]]:
    """Return (bbox, label, crowd) of every object, by the id of its image."""
    labels = {category.id: label for label, category in enumerate(truth.categories)}
    objects: dict[ImageId, list[tuple[list[float], int, bool]]] = {}
    for entry in truth.annotations:
        instance = (entry["bbox"], labels[entry["category_id"]], bool(entry["iscrowd"]))
        objects.setdefault(entry["image_id"], []).append(instance)
    return objects


def _record(
    entry: dict[str, Any], objects: list[tuple[list[float], int, bool]], images: Path, where: str
) -> tuple[Record, int]:
    """Return the record of an image, and the number of its boxes that are too small to train on."""
    file_name = entry.get("file_name")
    if not isinstance(file_name, str):
        raise UserError(f"{where}.file_name: expected a string, got {shown(file_name)}")
    height, width = (_side(entry.get(field), f"{where}.{field}") for field in ("height", "width"))
    boxes = np.array([box for box, _, _ in objects], np.float64).reshape(-1, 4)
    # The corners are added up and clipped in float64, so that they are rounded once.
    boxes[:, 2:] += boxes[:, :2]
    boxes, solid = clip_boxes(boxes, height, width)
    labels = np.array([label for _, label, _ in objects], np.int64)
    crowd = np.array([crowd for _, _, crowd in objects], np.bool_)
    path = find_image(images, file_name)
    record = Record(entry["id"], path, height, width, boxes[solid], labels[solid], crowd[solid])
    return record, int((~solid).sum())


def clip_boxes(
    boxes: NDArray[np.float64], height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return boxes (m, 4) xyxy clipped to an image, and which of them are large enough to train on.

    These have no side under :data:`LEAST_SIDE`.
    """
    clipped = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
    solid = np.all(clipped[:, 2:] - clipped[:, :2] >= LEAST_SIDE, axis=1)
    return clipped, solid


def _side(value: Any, where: str) -> int:
    """Return the length of a side of an image in pixels."""
    side = read_whole(value)
    if side is None or not 0 < side <= LONGEST_SIDE:
        raise UserError(
            f"{where}: expected an integer from 1 to {LONGEST_SIDE}, got {shown(value)}"
        )
    return side
