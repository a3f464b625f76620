"""Writing files so that nothing is lost: under another name in the same folder first, renamed when whole."""

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
    """A temporary path to write to; it becomes ``path`` when the block ends, and goes if the block fails.

    Raises UserError that names ``path`` if the operating system refuses, for one on a full disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path}: could not be written ({error}); an older file of that name is as it was"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write text whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write JSON whole or not at all. Raises ValueError for NaN and infinity, which JSON has not."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
