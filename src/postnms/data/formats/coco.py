"""A reader of annotations in COCO format (https://cocodataset.org/#format-data).

Every field that the library needs is checked, and an error names the file and the field. All other
fields are kept as they are. Labels 0..K-1 are positions in the list of categories, sorted by id.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from postnms.data.dataset import Category, Dataset, Record, Truth
from postnms.data.formats.fields import check_field, read_bbox, read_ids
from postnms.errors import UserError
from postnms.files.json_files import read_json

logger = logging.getLogger(__name__)

LEAST_SIDE = 0.1
"""Shortest side, in pixels, of a box to train on.

A shorter box is usually the remnant of a box that the image border cuts. It vanishes when the image
is flipped or resized.
"""


DEFAULT_ANNOTATIONS = "instances_val.json"
"""Name of the annotation file that is read from a folder, if no other name is given."""


def read_truth(annotations: Path) -> Truth:
    """Read an annotation file without its images. The id is the only field that an image needs.

    ``area`` and ``iscrowd`` may be missing. They are then width * height and 0. The list
    ``annotations`` may be missing too, as in the files of a test split.

    Raises:
        UserError: the file does not exist, is malformed JSON, lacks a field or has a wrong one,
            uses an id twice, or refers to an id that no image or category has. The message names
            the file and the field.

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
    content = read_json(annotations)
    name = annotations.name
    annotated = not isinstance(content, dict) or "annotations" in content
    for key in ("images", "annotations", "categories") if annotated else ("images", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"{name}: {key}: expected a list, got {_kind(content, key)}")
    content = {"annotations": [], **content}
    categories = _read_categories(content["categories"], name)
    image_ids = read_ids(content["images"], f"{name}: images")
    read_ids(content["annotations"], f"{name}: annotations")
    _check_annotations(content["annotations"], categories, image_ids, name)
    completed = [_complete(annotation) for annotation in content["annotations"]]
    return Truth(categories, {**content, "annotations": completed}, str(annotations), annotated)


def read_coco(annotations: Path, images: Path) -> Dataset:
    """Read an annotation file whose images lie in the folder ``images``. No image is opened yet.

    Boxes of the records are clipped to the image. Boxes with a side under :data:`LEAST_SIDE` are
    left out of the records, with a warning in the log. They stay in the truth.

    Raises:
        UserError: as for :func:`read_truth`, and also if the folder does not exist or an image has
            no file name or no size.
    """
    truth = read_truth(annotations)
    name = annotations.name
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


def open_annotations(data: Path, name: str | None = None) -> Truth:
    """Read the truth from an annotation file, or from a folder that holds one.

    Args:
        data: an annotation file or a folder.
        name: name of the annotation file in the folder. None: :data:`DEFAULT_ANNOTATIONS`. It has
            no effect if ``data`` is a file.

    Raises:
        UserError: as for :func:`read_truth`.
    """
    return read_truth(data / (name or DEFAULT_ANNOTATIONS) if data.is_dir() else data)


def _read_categories(entries: list[Any], name: str) -> tuple[Category, ...]:
    """Return the checked categories, sorted by id. ``name`` is that of the file."""
    read_ids(entries, f"{name}: categories")
    for index, entry in enumerate(entries):
        if not isinstance(entry.get("name"), str):
            raise UserError(
                f"{name}: categories[{index}].name: expected a string, got {entry.get('name')!r}"
            )
    categories = sorted(
        (Category(entry["id"], entry["name"]) for entry in entries),
        key=lambda category: category.id,
    )
    if not categories:
        raise UserError(f"{name}: categories: expected at least one, got none")
    return tuple(categories)


def _check_annotations(
    entries: list[dict[str, Any]],
    categories: tuple[Category, ...],
    image_ids: dict[int, int],
    name: str,
) -> None:
    """Raise UserError unless every annotation has valid fields and refers to existing ids."""
    labels = [category.id for category in categories]
    for index, entry in enumerate(entries):
        where = f"{name}: annotations[{index}]"
        check_field(entry, "category_id", labels, f"one of {labels[:20]}", where)
        check_field(entry, "image_id", image_ids, "the id of an image", where)
        check_field({"iscrowd": 0, **entry}, "iscrowd", (0, 1), "0 or 1", where)
        if not isinstance(entry.get("area", 0), int | float):
            raise UserError(f"{where}.area: expected a number, got {entry['area']!r}")
        read_bbox(entry.get("bbox"), f"{where}.bbox")


def _objects(truth: Truth) -> dict[int, list[tuple[list[float], int, bool]]]:
    """Return (bbox, label, crowd) of every object, by the id of its image."""
    labels = {category.id: label for label, category in enumerate(truth.categories)}
    objects: dict[int, list[tuple[list[float], int, bool]]] = {}
    for entry in truth.annotations:
        instance = (entry["bbox"], labels[entry["category_id"]], bool(entry["iscrowd"]))
        objects.setdefault(entry["image_id"], []).append(instance)
    return objects


def _record(
    entry: dict[str, Any], objects: list[tuple[list[float], int, bool]], images: Path, where: str
) -> tuple[Record, int]:
    """Return the record of an image, and the number of its boxes that are too small to train on."""
    for field, kind in (("file_name", str), ("height", int), ("width", int)):
        if not isinstance(entry.get(field), kind) or (kind is int and entry[field] <= 0):
            expected = "a string" if kind is str else "an integer > 0"
            raise UserError(f"{where}.{field}: expected {expected}, got {entry.get(field)!r}")
    height = entry["height"]
    width = entry["width"]
    boxes = np.array([box for box, _, _ in objects], np.float64).reshape(-1, 4)
    # The corners are added up and clipped in float64, so that they are rounded once.
    boxes[:, 2:] += boxes[:, :2]
    boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
    solid = (boxes[:, 2:] - boxes[:, :2] >= LEAST_SIDE).all(axis=1)
    labels = np.array([label for _, label, _ in objects], np.int64)
    crowd = np.array([crowd for _, _, crowd in objects], np.bool_)
    record = Record(
        entry["id"],
        images / entry["file_name"],
        height,
        width,
        boxes[solid],
        labels[solid],
        crowd[solid],
    )
    return record, int((~solid).sum())


def _complete(annotation: dict[str, Any]) -> dict[str, Any]:
    """Return the annotation with the fields that the evaluation reads, where it lacks them."""
    _, _, width, height = annotation["bbox"]
    return {"area": width * height, "iscrowd": 0, **annotation}


def _kind(content: Any, key: str) -> str:
    """Return the type of ``content[key]``, or of ``content`` if it is no object, for messages."""
    if not isinstance(content, dict):
        return f"{type(content).__name__} at the top"
    return type(content[key]).__name__ if key in content else "nothing"
