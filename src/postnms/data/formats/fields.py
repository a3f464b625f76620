"""Checks of the fields of annotation files, for every format.

Each raises UserError with the place of the field, what was expected there and what came.
"""

import sys
from collections.abc import Container
from typing import Any

from postnms.errors import UserError


def read_ids(entries: list[Any], where: str) -> dict[int, int]:
    """Return the position of each id. Raises UserError unless every entry has a different one."""
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


def check_field(
    entry: dict[str, Any], field: str, valid: Container[int], expected: str, where: str
) -> None:
    """Raise UserError unless a field is an integer among the valid ones."""
    value = entry.get(field)
    if not isinstance(value, int) or value not in valid:
        raise UserError(f"{where}.{field}: expected {expected}, got {value!r}")


def is_number(value: Any) -> bool:
    """Return whether a value of JSON is a finite number: an int or a float, not a bool."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def read_bbox(value: Any, where: str) -> list[float]:
    """Return ``value`` if it is a COCO box, [x, y, width, height] with sides of at least 0.

    Otherwise it raises UserError, whose message begins with ``where``.
    """
    numbers = isinstance(value, list) and len(value) == 4 and all(is_number(v) for v in value)
    if not numbers or min(value[2:]) < 0:
        raise UserError(
            f"{where}: expected [x, y, width >= 0, height >= 0], four finite numbers, got {value!r}"
        )
    return value
