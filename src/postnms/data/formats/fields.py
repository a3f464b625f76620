"""Checks of the fields of annotations and results, for every format.

Each raises UserError with the place of the field, what was expected there and what came. A whole
number may be written as 1 or as 1.0: some exporters write every number as a float.
"""

import sys
from collections.abc import Callable, Container
from typing import Any, TypeVar

from postnms.data.dataset import ImageId
from postnms.errors import UserError, shown

LARGEST = 1e15
"""Largest absolute value of a number of a box.

The areas of such boxes, and the squares of their distances, are finite in float32.
"""

Id = TypeVar("Id", bound=ImageId)


def read_whole(value: Any) -> int | None:
    """Return a whole number as an int, or None if the value is none: 1.0 is, ``true`` is not."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def read_id(value: Any) -> ImageId | None:
    """Return a string as it is and a whole number as an int, or None for any other value."""
    return value if isinstance(value, str) else read_whole(value)


def read_ids(
    entries: list[Any], where: str, read: Callable[[Any], Id | None], expected: str
) -> dict[Id, int]:
    """Return the position of each entry by its id, in the order of the entries.

    ``read`` is :func:`read_whole` or :func:`read_id`, and ``expected`` says which. Raises UserError
    unless every entry has an id of its own.
    """
    positions: dict[Id, int] = {}
    for index, entry in enumerate(entries):
        check_object(entry, f"{where}[{index}]")
        value = read(entry.get("id"))
        if value is None:
            raise UserError(
                f"{where}[{index}].id: expected {expected}, got {shown(entry.get('id'))}"
            )
        check_unique(value, positions, index, where)
        positions[value] = index
    return positions


def check_unique(value: ImageId, positions: dict[Any, int], index: int, where: str) -> None:
    """Raise UserError if an entry before entry ``index`` has the same id, see ``positions``."""
    if value in positions:
        raise UserError(
            f"{where}[{index}].id: {shown(value)} is already that of {where}[{positions[value]}]"
        )


def check_object(value: Any, where: str) -> None:
    """Raise UserError unless a value is a JSON object."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected an object, got {type(value).__name__}")


def read_field(
    entry: dict[str, Any],
    field: str,
    read: Callable[[Any], Id | None],
    valid: Container[Id],
    expected: str,
    where: str,
) -> Id:
    """Return the number or the string of a field. Raise UserError unless it is a valid one.

    ``read`` is :func:`read_whole` or :func:`read_id`. ``expected`` describes the valid values.
    """
    value = read(entry.get(field))
    if value is None or value not in valid:
        raise UserError(f"{where}.{field}: expected {expected}, got {shown(entry.get(field))}")
    return value


def is_number(value: Any) -> bool:
    """Return whether a value of JSON is a finite number: an int or a float, not a bool."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def is_text(value: Any) -> bool:
    """Return whether a value is a string that UTF-8 can hold: without half a surrogate pair."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_bbox(value: Any, where: str) -> list[float]:
    """Return ``value`` if it is a COCO box, [x, y, width, height] with sides of at least 0.

    Otherwise it raises UserError, whose message begins with ``where``. No number may be larger than
    :data:`LARGEST`.
    """
    numbers = isinstance(value, list) and len(value) == 4 and all(is_number(v) for v in value)
    if not numbers or min(value[2:]) < 0 or max(map(abs, value)) > LARGEST:
        raise UserError(
            f"{where}: expected [x, y, width >= 0, height >= 0], four finite numbers of at most "
            f"{LARGEST:g}, got {shown(value)}"
        )
    return value
