"""A reader of COCO-format annotations (https://cocodataset.org/#format-data): strict about what it needs.

Labels 0..K-1 are positions in ``categories``; the map to category ids is applied here and in the evaluation.
"""

import json
import logging
import sys
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from postnms.data.dataset import Category, CocoDataset, Record, Truth
from postnms.errors import UserError

logger = logging.getLogger(__name__)

LEAST_SIDE = 0.1
"""Shortest side, in pixels, of a box to train on: a shorter one is often left of a box outside the image, and rounds
to nothing when the image is mirrored or resized."""


def read_truth(annotations: Path) -> Truth:
    """Read an annotation file alone; of its images only the ids are looked at.

    ``area`` and ``iscrowd`` may be missing (then width * height, and 0), and so may ``annotations``, as in the files
    of a test split. Raises UserError that names the file and the field: malformed JSON, missing or wrong fields,
    duplicate ids, ids that nothing has.
    """
    content = _read_json(annotations)
    name = annotations.name
    annotated = not isinstance(content, dict) or "annotations" in content
    for key in ("images", "annotations", "categories") if annotated else ("images", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"{name}: {key}: expected a list, got {_kind(content, key)}")
    content = {"annotations": [], **content}
    categories = _read_categories(content["categories"], name)
    image_ids = _ids(content["images"], f"{name}: images")
    _ids(content["annotations"], f"{name}: annotations")
    _check_annotations(content["annotations"], categories, image_ids, name)
    completed = [_complete(annotation) for annotation in content["annotations"]]
    return Truth(categories, {**content, "annotations": completed}, str(annotations), annotated)


def read_coco(annotations: Path, images: Path) -> CocoDataset:
    """Read an annotation file whose images lie in the folder ``images``; no image is opened yet.

    Raises UserError as :func:`read_truth`, and if an image has no file name or size.
    """
    truth = read_truth(annotations)
    name = annotations.name
    if not images.is_dir():
        raise UserError(f"{images}: no such folder of images (for {name})")
    objects = _objects(truth)
    records, dropped = [], 0
    for index, entry in enumerate(truth.content["images"]):
        record, lost = _record(
            entry, objects.get(entry["id"], []), images, f"{name}: images[{index}]"
        )
        records.append(record)
        dropped += lost
    if dropped:
        least = f"{LEAST_SIDE} px in their image"
        logger.warning("%s: %d boxes with a side under %s are not trained on", name, dropped, least)
    return CocoDataset(
        truth.categories, tuple(records), truth.content, truth.source, truth.annotated
    )


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such annotation file")
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: malformed JSON ({error})") from error


def _read_categories(entries: list[Any], name: str) -> tuple[Category, ...]:
    _ids(entries, f"{name}: categories")
    for index, entry in enumerate(entries):
        if not isinstance(entry.get("name"), str):
            raise UserError(
                f"{name}: categories[{index}].name: expected a string, got {entry.get('name')!r}"
            )
    found = sorted(
        (Category(entry["id"], entry["name"]) for entry in entries),
        key=lambda category: category.id,
    )
    if not found:
        raise UserError(f"{name}: categories: expected at least one, got none")
    return tuple(found)


def _ids(entries: list[Any], where: str) -> dict[int, int]:
    """Position of each id; every entry must have one of its own."""
    positions: dict[int, int] = {}
    for index, entry in enumerate(entries):
        number = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(number, int) or isinstance(number, bool):
            raise UserError(f"{where}[{index}].id: expected an integer, got {number!r}")
        if number in positions:
            raise UserError(
                f"{where}[{index}].id: {number} is already that of {where}[{positions[number]}]"
            )
        positions[number] = index
    return positions


def _check_annotations(
    entries: list[dict[str, Any]],
    categories: tuple[Category, ...],
    image_ids: dict[int, int],
    name: str,
) -> None:
    labels = [category.id for category in categories]
    for index, entry in enumerate(entries):
        where = f"{name}: annotations[{index}]"
        _check(entry, "category_id", labels, f"one of {labels[:20]}", where)
        _check(entry, "image_id", image_ids, "the id of an image", where)
        _check({"iscrowd": 0, **entry}, "iscrowd", (0, 1), "0 or 1", where)
        if not isinstance(entry.get("area", 0), int | float):
            raise UserError(f"{where}.area: expected a number, got {entry['area']!r}")
        read_bbox(entry.get("bbox"), f"{where}.bbox")


def _objects(truth: Truth) -> dict[int, list[tuple[list[float], int, bool]]]:
    """(bbox, label, crowd) by image id."""
    labels = {category.id: label for label, category in enumerate(truth.categories)}
    objects: dict[int, list[tuple[list[float], int, bool]]] = {}
    for entry in truth.content["annotations"]:
        found = (entry["bbox"], labels[entry["category_id"]], bool(entry["iscrowd"]))
        objects.setdefault(entry["image_id"], []).append(found)
    return objects


def _check(
    entry: dict[str, Any], field: str, valid: Container[int], expected: str, where: str
) -> None:
    value = entry.get(field)
    if not isinstance(value, int) or value not in valid:
        raise UserError(f"{where}.{field}: expected {expected}, got {value!r}")


def is_number(value: Any) -> bool:
    """A finite number of JSON: an int or a float, not a bool."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def read_bbox(value: Any, where: str) -> list[float]:
    """The value of a ``bbox``, (x, y, width, height). Raises UserError that begins with ``where`` if it is none."""
    numbers = isinstance(value, list) and len(value) == 4 and all(is_number(v) for v in value)
    if not numbers or min(value[2:]) < 0:
        raise UserError(
            f"{where}: expected [x, y, width >= 0, height >= 0], four finite numbers, got {value!r}"
        )
    return value


def _record(
    entry: dict[str, Any], objects: list[tuple[list[float], int, bool]], images: Path, where: str
) -> tuple[Record, int]:
    """The record of an image, and how many of its boxes are next to nothing inside it."""
    for field, kind in (("file_name", str), ("height", int), ("width", int)):
        if not isinstance(entry.get(field), kind) or (kind is int and entry[field] <= 0):
            wanted = "a string" if kind is str else "an integer > 0"
            raise UserError(f"{where}.{field}: expected {wanted}, got {entry.get(field)!r}")
    height, width = entry["height"], entry["width"]
    boxes = np.array([box for box, _, _ in objects], np.float64).reshape(-1, 4)
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
    """The annotation with the fields that the evaluation reads."""
    _, _, width, height = annotation["bbox"]
    return {"area": width * height, "iscrowd": 0, **annotation}


def _kind(content: Any, key: str) -> str:
    if not isinstance(content, dict):
        return f"{type(content).__name__} at the top"
    return type(content[key]).__name__ if key in content else "nothing"


DEFAULT_ANNOTATIONS = "instances_val.json"


def open_annotations(data: Path, name: str | None = None) -> Truth:
    """Annotations from a file, or from a folder that has them under ``name`` (default: instances_val.json)."""
    return read_truth(data / (name or DEFAULT_ANNOTATIONS) if data.is_dir() else data)
