"""The places of images that a ``data.yaml`` names, which may have been written on another machine.

A place is looked for where the file says, and then beside the file: ``/home/me/set/images/train``
is ``images/train`` there, or ``train``, whichever is there first. So is ``../train/images``.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from postnms.data.image_files import EXTENSIONS
from postnms.errors import UserError, shown


@dataclass(frozen=True)
class Place:
    """A folder or file that was found."""

    path: Path
    moved: bool
    """True: it is not where the file says, but beside the file."""


@dataclass(frozen=True)
class NamedPlace:
    """A place that the file names for the images of a split."""

    text: str
    """As the file has it."""
    found: Place | None
    """Where it is, or None if it is not there."""

    def is_lost(self, others: Iterable["NamedPlace"]) -> bool:
        """Return whether the place is not there. ``others`` are those of the other splits.

        What is beside the file and has the last parts of the name is another place if it has the
        images of another split in it: ``../test/images`` does not mean ``images``, where train and
        val are.
        """
        if self.found is None:
            return True
        own = self.found.path
        return self.found.moved and any(
            other.found is not None
            and other.text != self.text
            and own in (other.found.path, *other.found.path.parents)
            for other in others
        )


def find_place(place: str, folders: Sequence[Path]) -> Place | None:
    """Return the folder or file that ``place`` means, or None if it is not there.

    ``place`` is a path as ``data.yaml`` has it. If it is relative, it begins in one of ``folders``:
    the first one in which it is there.
    """
    if "\0" in place:
        return None
    for folder in folders:
        if os.path.exists(folder / place):
            return Place(_plain(folder / place), moved=False)
    parts = [part for part in _parts(place) if part not in ("..", ".")]
    for first in range(len(parts)):
        for folder in folders:
            path = folder.joinpath(*parts[first:])
            if os.path.exists(path):
                # Roboflow writes ../train/images for the folder beside the file.
                return Place(path, moved=first > 0 or bool(PureWindowsPath(place).anchor))
    return None


def listed_images(place: Path, folders: Sequence[Path], where: str) -> list[Path]:
    """Return the images in a folder, at any depth and sorted, or those that a text file lists.

    Lines that are relative begin in the folder of the list or in one of ``folders``. Raises
    UserError if the list cannot be read, if a line names no file, or if there is no image at all.
    """
    if place.is_dir():
        found = sorted(path for path in place.rglob("*") if path.suffix.lower() in EXTENSIONS)
        if not found:
            raise UserError(f"{where}: {place}: expected images in this folder, got none")
        return found
    if place.suffix.lower() in EXTENSIONS:
        return [place]
    try:
        text = place.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: expected a list of images, got no UTF-8") from error
    except OSError as error:
        raise UserError(f"{place}: could not be read ({error.strerror})") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    paths = []
    missing = []
    for line in lines:
        found = find_place(line, [place.parent, *folders])
        if found is None or not found.path.is_file():
            missing.append(line)
        else:
            paths.append(found.path)
    if missing or not lines:
        named = ", ".join(map(shown, missing[:3])) or "none"
        raise UserError(
            f"{place}: expected a list of images, of {len(lines)} lines {len(missing)} are no "
            f"file that is there: {named}"
        )
    return paths


def _plain(path: Path) -> Path:
    """Return a path without ``..``, unless that is another place since a folder is a link."""
    plain = Path(os.path.normpath(path))
    return plain if plain.exists() and plain.samefile(path) else path


def _parts(place: str) -> tuple[str, ...]:
    """Return the parts of a path of any system, without its drive and root."""
    path = PureWindowsPath(place)
    return path.relative_to(path.anchor).parts
