"""The image file that an annotation file means, whatever the tool that wrote the name."""

import os
from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize
from urllib.parse import unquote


def find_image(images: Path, name: str) -> Path:
    """Return the path of an image in the folder ``images``.

    If the folder has a file of this name as it stands, that is the image. The name may be absolute
    or lead out of the folder with ``..``: both are usual in annotation files. Otherwise the
    following spellings of the name are tried, one and several together, and the first one that
    exists in the folder is the image. None of them may lead out of the folder.

    - Slashes in place of backslashes: ``a\\\\b.jpg`` is ``a/b.jpg``.
    - Decoded as an URL: ``my%20image.jpg`` is ``my image.jpg``.
    - Without ``images/``, or the name of the folder itself, at the beginning.
    - The ending in lower or in upper case: ``a.JPG`` is ``a.jpg``.
    - Accents as parts of their letters or as characters of their own (Unicode's forms NFC and NFD):
      systems and tools write either, and they look the same.

    If no such file exists, the path has the name as it stands. No error is raised for that.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     (Path(folder) / "my image.jpg").touch()
        ...     find_image(Path(folder), "images\\\\my%20image.JPG").name
        'my image.jpg'
    """
    return images / find_name(images, name)


def find_name(images: Path, name: str) -> str:
    """Return the spelling of a name that :func:`find_image` chooses, relative to ``images``."""
    folder = os.fspath(images)
    if not os.path.isfile(os.path.join(folder, name)):
        for spelling in _spellings(name, images.name):
            inside = os.path.normpath(spelling)
            leads_out = os.path.isabs(inside) or inside.split(os.sep)[0] == os.pardir
            if not leads_out and os.path.isfile(os.path.join(folder, inside)):
                return inside
    return name


def _spellings(name: str, folder: str) -> Iterator[str]:
    """Yield the other spellings of a name in the order in which they are tried.

    ``folder`` is the name of the folder of images.
    """
    slashed = name.replace("\\", "/")
    for text in (slashed, unquote(slashed).replace("\\", "/")):
        text = text.removeprefix("./")
        first, _, rest = text.partition("/")
        for inside in (text, rest) if rest and first in ("images", folder) else (text,):
            stem, ending = os.path.splitext(inside)
            endings = (inside, stem + ending.lower(), stem + ending.upper())
            yield from endings
            if not inside.isascii():
                yield from (normalize(form, other) for form in ("NFC", "NFD") for other in endings)
