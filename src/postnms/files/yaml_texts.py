"""YAML that others may have written or damaged: whatever is wrong with it is one message.

All scalars are read as text: ``no`` is the text "no" and ``1`` is the text "1". So a class may have
any name, and no tag of the file can build an object.
"""

from pathlib import Path
from typing import Any

import yaml

from postnms.errors import UserError

MOST_BYTES = 2**22
"""Default of the largest number of bytes of a YAML file."""


def read_yaml_texts(path: Path, most: int = MOST_BYTES) -> Any:
    """Return the content of a YAML file: lists and dicts of texts. An empty file gives "".

    Raises:
        UserError: the file cannot be read, is larger than ``most`` bytes, or is malformed. The
            message begins with the path and has the number of the line.
    """
    try:
        size = path.stat().st_size
        if size > most:
            raise UserError(f"{path}: expected at most {most} bytes of YAML, got {size}")
        return parse_yaml_texts(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path}: could not be read ({error})") from error


def parse_yaml_texts(text: bytes, name: str) -> Any:
    """Return the content of a YAML text, see :func:`read_yaml_texts`.

    Raises UserError that begins with ``name`` if the text is malformed.
    """
    try:
        content = yaml.load(text.decode("utf-8-sig"), Loader=yaml.BaseLoader)
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: malformed YAML (not UTF-8 at byte {error.start})") from error
    except RecursionError as error:
        raise UserError(f"{name}: malformed YAML (it nests too deeply)") from error
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        line = f":{place.line + 1}" if place else ""
        raise UserError(f"{name}{line}: malformed YAML ({error.problem})") from error
    except yaml.YAMLError as error:
        about = " ".join(str(error).split())
        raise UserError(f"{name}: malformed YAML ({about:.100})") from error
    return "" if content is None else content
