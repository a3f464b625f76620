"""Locks on files, which the system releases when the process that holds them ends in any way.

There are no locks on Windows and on file systems without them: there, every lock is granted.
"""

import errno
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from postnms.errors import UserError
from postnms.files.json_files import parse_json

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"
"""Name of the file in a folder whose lock is that of the folder."""


def lock(number: int) -> bool:
    """Lock an open file, given by its number. Return False if another opening holds its lock.

    Children that a process forks share its lock, so the lock ends with the last of them.
    """
    return sys.platform == "win32" or _try(fcntl.flock, number)


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file."""
    with path.open("rb") as file:
        return not lock(file.fileno())


@contextmanager
def hold_folder(folder: Path, command: str | None = None) -> Iterator[None]:
    """Hold a folder during the ``with`` block, so that no other process writes to it meanwhile.

    The folder is created if it is missing. The file :data:`LOCK` in it names the holder, and is
    removed at the end. If the process is killed, the file stays, and the next holder takes it over.

    Args:
        folder: the folder.
        command: what the process is doing, for the message that another process shows.

    Raises:
        UserError: another process holds the folder. The message names it.
        OSError: the operating system refuses to create the folder or the file.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with hold_folder(Path(folder)):
        ...         [path.name for path in Path(folder).iterdir()]
        ['.lock']
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    number = _open_locked(path)
    try:
        os.ftruncate(number, 0)
        os.write(number, json.dumps(_this_holder(command)).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(number)


def _open_locked(path: Path) -> int:
    """Open a file, lock it, and return its number. Raise UserError if that is impossible."""
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        # A DataLoader forks workers, which outlive a killed parent for seconds. With a lock of the
        # process itself, instead of one of the open file, they do not keep the folder locked.
        if sys.platform != "win32" and not _try(fcntl.lockf, number):
            os.close(number)
            raise UserError(f"{path.parent}: is in use by {_name_holder(path)}")
        # A holder removes the file when it ends. If that was between the two calls, this lock is
        # on a file that no other process sees.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(number).st_ino:
                return number
        os.close(number)


def _try(lock_file: Callable[[int, int], object], number: int) -> bool:
    """Lock an open file with a function of ``fcntl``. Return False if the lock is held."""
    try:
        lock_file(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            return True  # The file system has no locks.
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _this_holder(command: str | None) -> dict[str, Any]:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"process": os.getpid(), "machine": platform.node(), "since": since, "command": command}


def _name_holder(path: Path) -> str:
    """Return the words for the process that holds a folder, as far as its file says it."""
    try:
        holder = parse_json(path.read_bytes(), str(path))
        doing = f" ({holder['command']})" if holder["command"] else ""
        return (
            f"process {holder['process']} on {holder['machine']} since {holder['since']}{doing}; "
            f"wait for its end, or name another folder"
        )
    except (OSError, UserError, LookupError, TypeError):
        return "another process; wait for its end, or name another folder"
