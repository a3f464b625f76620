"""JSON that others may have written or damaged: whatever is wrong with it is one message."""

import json
from pathlib import Path
from typing import Any

from postnms.errors import UserError


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises UserError that names the file if it has none."""
    try:
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path}: could not be read ({error})") from error


def parse_json(text: str | bytes, name: str) -> Any:
    """Return the value of a JSON text. Raises UserError that begins with ``name`` if it is none.

    Malformed are also texts that are not UTF-8, that nest too deeply, and numbers with thousands
    of digits, for which Python's reader raises other errors than for wrong syntax.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: malformed JSON ({error})") from error
