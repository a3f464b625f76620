"""Atomic writing of files, so that a failure never leaves half a file or loses an older one.

The content goes into a temporary file in the same folder. When it is complete, the temporary file
is renamed, which replaces an older file in one step.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from postnms.errors import UserError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to ``path`` when the ``with`` block ends.

    The block must create the file. Missing folders of ``path`` are created first. If the block
    fails, the temporary file is deleted, and an older file at ``path`` is left as it was.

    Raises:
        UserError: that names ``path``, if the operating system refuses, for example because the
            disk is full. It is raised in place of any OSError of the block. Other errors of the
            block are not changed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from postnms.files.atomic import atomic_path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "new" / "numbers.txt"
        ...     with atomic_path(path) as temporary:
        ...         count = temporary.write_text("1 2 3")
        ...         before = path.exists()
        ...     before, path.read_text()
        (False, '1 2 3')
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        # Without this, a power failure after the renaming could leave an empty file at ``path``.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path}: could not be written ({error}); an older file of this name is left as it was"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all, see :func:`atomic_path`.

    Raises:
        UserError: if the operating system refuses.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write a JSON file completely or not at all, see :func:`atomic_path`.

    Args:
        path: the file.
        content: anything that the module ``json`` can write.
        indent: spaces for each level of nesting. None: everything stands on one line.

    Raises:
        ValueError: if ``content`` holds NaN or infinity, which JSON cannot express.
        UserError: if the operating system refuses.
    """
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


def hash_of(path: Path) -> str:
    """Return the SHA-256 hash of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
