"""JSON that others may have written or damaged: whatever is wrong with it is one message.

Malformed is what Python's module ``json`` refuses: wrong syntax, nesting of about a thousand levels
and more, and integers of more than 4,300 digits. The text is UTF-8, with or without a byte order
mark. As in that module, the last of several equal names in an object counts, and ``NaN`` and
``Infinity`` are numbers. A reader of a field that must be finite checks that itself.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postnms.errors import UserError, shown, shown_name

MOST_LEVELS = 100
"""Deepest nesting of facts, see :func:`check_facts`."""


@dataclass(frozen=True)
class JsonLimits:
    """Largest sizes of JSON that is read, so that a hostile file cannot fill the memory.

    Functions that read JSON take such limits as an argument.
    """

    file: int = 2**33
    """Bytes of a file that is read as a whole. The annotations of COCO have about 2**29."""
    text: int = 2**34
    """Characters, after unpacking, of a list that is read entry by entry."""
    entry: int = 2**24
    """Characters of one entry of such a list."""


LIMITS = JsonLimits()
"""The usual limits."""


def read_json(path: Path, limits: JsonLimits = LIMITS) -> Any:
    """Return the content of a JSON file.

    Raises:
        UserError: the file cannot be read, is larger than ``limits.file``, or is malformed. The
            message begins with the path.
    """
    try:
        size = path.stat().st_size
        if size > limits.file:
            raise UserError(
                f"{path}: expected at most {limits.file} bytes of JSON, got {size}; "
                f"JsonLimits.file sets the limit"
            )
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path}: could not be read ({error})") from error


def parse_json(text: str | bytes, name: str) -> Any:
    """Return the value of a JSON text. Raises UserError that begins with ``name`` if it is none."""
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: malformed JSON ({describe(error)})") from error


def describe(error: Exception) -> str:
    """Return in plain words why ``json`` refuses a text: one of its ValueError or RecursionError.

    The place of a mistake is part of it, except for numbers that are too long.
    """
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    # Any other ValueError is that of an integer that is too long to be read.
    return str(error) if isinstance(error, json.JSONDecodeError) else "an integer is too long"


def check_facts(value: Any, name: str) -> None:
    """Raise UserError unless JSON can hold a value again: facts that are read to be passed on.

    Numbers must be finite, since JSON has no others. Lists and objects nest at most
    :data:`MOST_LEVELS` deep. The message begins with ``name`` and the path to the value.
    """
    left = [(name, value, 0)]
    while left:
        where, value, level = left.pop()
        if level > MOST_LEVELS:
            raise UserError(f"{name}: expected at most {MOST_LEVELS} levels of nesting, got more")
        if isinstance(value, dict):
            left += [(f"{where}.{shown_name(key)}", part, level + 1) for key, part in value.items()]
        elif isinstance(value, list):
            left += [(f"{where}[{index}]", part, level + 1) for index, part in enumerate(value)]
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}: expected a finite number, got {shown(value)}")
