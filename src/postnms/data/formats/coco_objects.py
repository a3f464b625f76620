"""The annotations of COCO's format, checked one by one and kept as columns."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from postnms.data.columns import ObjectColumns, ObjectRows
from postnms.data.formats.fields import (
    check_object,
    check_unique,
    is_number,
    read_bbox,
    read_field,
    read_id,
    read_whole,
)
from postnms.data.ids import Ids, ImageId
from postnms.errors import UserError, shown


def read_objects(
    entries: Collection[Any],
    categories: Mapping[int, int],
    images: Mapping[ImageId, int],
    image_ids: Ids,
    name: str,
) -> ObjectColumns:
    """Return annotations as columns.

    Args:
        entries: the annotations, as JSON has them.
        categories: the position of each class by its id, in the order of the file.
        images: the position of each image by its id.
        image_ids: the ids of the images in their order.
        name: the name of the file, for messages.

    Raises:
        UserError: an annotation has a wrong field, refers to an id that no image or category has,
            or has the id of an earlier one.
    """
    expected = f"one of {shown(sorted(categories))}"
    # The classes of the file get the numbers of their order in it.
    numbers = {own: number for number, own in enumerate(categories)}
    rows, ids = ObjectRows(image_ids, list(categories)), []
    for index, entry in enumerate(entries):
        where = f"{name}: annotations[{index}]"
        check_object(entry, where)
        own = entry.get("id")
        if own is not None and (own := read_id(own)) is None:
            came = shown(entry["id"])
            raise UserError(f"{where}.id: expected an integer or a string, got {came}")
        ids.append(own)
        category = read_field(entry, "category_id", read_whole, numbers, expected, where)
        image = read_field(entry, "image_id", read_id, images, "the id of an image", where)
        bbox = read_bbox(entry.get("bbox"), f"{where}.bbox")
        area = _area(entry.get("area"), bbox, where)
        crowd = _crowd(entry.get("iscrowd"), where)
        rows.add(images[image], numbers[category], bbox, area, crowd)
    columns = rows.columns(ids)
    _check_unique(columns.ids, f"{name}: annotations")
    return columns


def _check_unique(ids: Ids, where: str) -> None:
    """Raise UserError if two annotations have the same id."""
    if isinstance(ids.values, np.ndarray) and len(np.unique(ids.values)) == len(ids):
        return
    positions: dict[ImageId, int] = {}
    for index, own in enumerate(ids):
        if own is not None:
            check_unique(own, positions, index, where)
            positions[own] = index


def _area(value: Any, bbox: list[float], where: str) -> float:
    """Return the area of an annotation: that of its box if it has none of its own."""
    if value is None:
        return bbox[2] * bbox[3]
    # COCO's evaluation would leave an object of another area out of all figures.
    if not is_number(value) or value < 0:
        raise UserError(f"{where}.area: expected a finite number >= 0, got {shown(value)}")
    return value


def _crowd(value: Any, where: str) -> bool:
    """Return True for a crowd region, False for an object and if nothing is said."""
    if value is None:
        return False
    if value not in (0, 1):
        raise UserError(f"{where}.iscrowd: expected 0 or 1, got {shown(value)}")
    return bool(value)
