"""Atomic writing of files, so that a failure never leaves half a file or loses an older one.

The content goes into a temporary file in the same folder. When it is complete, the temporary file
is renamed, which replaces an older file in one step.

A process that is killed while it writes leaves its temporary file behind. The system releases the
lock on that file, so :func:`remove_leftovers` can tell it from the file of a process that lives.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from postnms.errors import UserError
from postnms.files.locks import is_locked, lock

LEFTOVERS = ".postnms-*.tmp"
"""Pattern of the names of temporary files. Their length does not depend on the name of the file."""
_ENTRIES_AT_ONCE = 4096
"""Number of entries of a list whose text is in memory together."""


@contextmanager
def atomic_path(path: Path, *, older: Path | None = None) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to ``path`` when the ``with`` block ends.

    The block must write to the temporary path. Missing folders of ``path`` are created first. If
    the block fails, the temporary file is deleted, and an older file at ``path`` is left as it was.
    Its permissions are those of any new file of the process.

    Args:
        path: the file.
        older: where to move an older file at ``path`` to, in the same folder. None: it is replaced.

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
    temporary = path.with_name(LEFTOVERS.replace("*", secrets.token_hex(8)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The open file holds the lock. It also is the file that the block writes to, by its name.
        with temporary.open("xb") as file:
            lock(file.fileno())
            yield temporary
            # Without this, a power failure after the renaming could leave an empty file.
            _write_to_disk(temporary)
        if older is not None and path.exists():
            os.replace(path, older)
        os.replace(temporary, path)
        # The names are data of the folder, which has to reach the disk too.
        _write_to_disk(path.parent)
    except OSError as error:
        raise UserError(
            f"{path}: could not be written ({error}); an older file of this name is left as it was"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder, not below it."""
    for leftover in folder.glob(LEFTOVERS):
        with suppress(OSError):
            if not is_locked(leftover):
                leftover.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 completely or not at all, see :func:`atomic_path`.

    Raises:
        UserError: if the operating system refuses.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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


def write_json_list(path: Path, entries: Iterable[Any]) -> None:
    """Write a list as :func:`write_json` does on one line, without holding its text in memory.

    Args:
        path: the file.
        entries: the entries of the list, each of which the module ``json`` can write.

    Raises:
        ValueError: if an entry holds NaN or infinity, which JSON cannot express.
        UserError: if the operating system refuses.
    """
    rest = iter(entries)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        separator = ""
        while part := list(islice(rest, _ENTRIES_AT_ONCE)):
            file.write(separator + json.dumps(part, allow_nan=False)[1:-1])
            separator = ", "
        file.write("]\n")


def hash_of(path: Path) -> str:
    """Return the SHA-256 hash of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_to_disk(path: Path) -> None:
    """Return when a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder.
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
