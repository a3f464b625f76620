"""Folders that this library writes to, told apart from folders of the user."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from postnms.errors import UserError
from postnms.files.atomic import LEFTOVERS, remove_leftovers
from postnms.files.json_files import read_json
from postnms.files.locks import LOCK, hold_folder


@dataclass(frozen=True)
class Marker:
    """The file by which this library knows a folder of its own, which it writes before others."""

    name: str
    """Name of the file, which holds a JSON object."""
    keys: tuple[str, ...]
    """Keys that the object has. They tell it from a file of the user with the same name."""


@contextmanager
def own_folder(
    folder: Path, kind: str, *markers: Marker, command: str | None = None
) -> Iterator[None]:
    """Hold a folder to write to during the ``with`` block, see :func:`hold_folder`.

    What killed processes have left in it is removed first. The arguments are those of
    :func:`check_own_folder`, and ``command`` is that of :func:`hold_folder`.

    Raises:
        UserError: as :func:`check_own_folder` and :func:`hold_folder`.
    """
    check_own_folder(folder, kind, *markers)
    with hold_folder(folder, command):
        remove_leftovers(folder)
        yield


def check_own_folder(folder: Path, kind: str, *markers: Marker) -> None:
    """Raise UserError unless a folder is new, empty, or was written by this library.

    The files of the user in any other folder could be overwritten or taken for results.

    Args:
        folder: the folder.
        kind: what the folder has to be, for the message, for example "a run".
        markers: the folder is one's own if it has one of them.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a folder", argument="out")
    if not folder.is_dir() or not any(map(_counts, folder.iterdir())):
        return
    if not any(_has(folder, marker) for marker in markers):
        names = " or ".join(marker.name for marker in markers)
        raise UserError(
            f"{folder}: holds files, and is not {kind} (no {names} of this library); "
            f"name a new or an empty folder",
            argument="out",
        )


def _counts(path: Path) -> bool:
    """Return whether a file is more than a trace of a process that was killed."""
    return path.name != LOCK and not path.match(LEFTOVERS)


def _has(folder: Path, marker: Marker) -> bool:
    """Return whether the marker is in a folder and has the form that this library gives it."""
    path = folder / marker.name
    if not path.is_file():
        return False
    content = read_json(path)
    return isinstance(content, dict) and all(key in content for key in marker.keys)
