"""A reader of annotations in the XML format of Pascal VOC.

One file describes one image: ``size`` with ``width`` and ``height``, and for each ``object`` a
``name``, a ``bndbox`` with ``xmin, ymin, xmax, ymax``, and perhaps ``difficult``. Other elements,
such as ``part``, ``pose`` and ``truncated``, are not read.

Pascal VOC counts pixels from 1, and the pixels of the corners belong to the box. So the edges of a
box are ``xmin - 1, ymin - 1, xmax, ymax``. Many other tools write the edges themselves.
:func:`counts_from_zero` tells the two apart.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree
from xml.parsers import expat

from postnms.data.formats.fields import LARGEST
from postnms.errors import UserError, shown, shown_path

MOST_BYTES = 2**26
"""Largest number of bytes of an XML file."""


@dataclass(frozen=True)
class VocObject:
    """One object as the file has it."""

    name: str
    corners: tuple[float, float, float, float]
    """xmin, ymin, xmax, ymax as they are written."""
    difficult: bool


@dataclass(frozen=True)
class VocFile:
    """What a file says of its image."""

    size: tuple[int, int] | None
    """(height, width) in pixels. None: the file does not say it, or says 0."""
    objects: tuple[VocObject, ...]


def read_voc(path: Path) -> VocFile:
    """Read one XML file.

    A document type and entities are refused: they are not part of the format, and a few lines of
    them can expand to gigabytes.

    Raises:
        UserError: the file cannot be read, is malformed, or an object has no name or no box. The
            message begins with the path.
    """
    where = shown_path(path)
    root = _parse(path, where)
    if root.tag != "annotation":
        raise UserError(f"{where}: expected the element 'annotation', got {shown(root.tag)}")
    objects = [
        _read_object(element, f"{where}: object {number}")
        for number, element in enumerate(root.findall("object"), 1)
    ]
    return VocFile(_read_size(root.find("size"), where), tuple(objects))


def counts_from_zero(files: Iterable[VocFile]) -> bool:
    """Return whether the corners of a data set are edges that are counted from 0.

    They are if one of them is less than 1: no pixel that is counted from 1 has such a number. All
    files of a data set are looked at together, since most boxes do not touch the border.
    """
    return any(min(found.corners[:2]) < 1 for file in files for found in file.objects)


def _parse(path: Path, where: str) -> ElementTree.Element:
    """Return the root of an XML file, which has neither a document type nor entities."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.buffer_text = True

    def refuse(*_: object) -> NoReturn:
        raise UserError(f"{where}: expected XML without a document type or entities, got one")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise UserError(f"{where}: expected at most {MOST_BYTES} bytes of XML, got {size}")
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise UserError(f"{where}: could not be read ({error.strerror})") from error
    except (expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{where}: malformed XML ({error})") from error
    return builder.close()


def _read_size(element: ElementTree.Element | None, where: str) -> tuple[int, int] | None:
    if element is None:
        return None
    sides = []
    for field in ("height", "width"):
        text = (element.findtext(field) or "0").strip()
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise UserError(f"{where}: size.{field}: expected an integer >= 0, got {shown(text)}")
        sides.append(int(text))
    return (sides[0], sides[1]) if min(sides) > 0 else None


def _read_object(element: ElementTree.Element, where: str) -> VocObject:
    name = " ".join((element.findtext("name") or "").split())
    if not name:
        raise UserError(f"{where}: name: expected a text, got none")
    box = element.find("bndbox")
    if box is None:
        inside = [child.tag for child in element]
        raise UserError(f"{where} ({shown(name)}): expected a bndbox, got only {shown(inside)}")
    corners = []
    for field in ("xmin", "ymin", "xmax", "ymax"):
        text = (box.findtext(field) or "").strip()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not abs(value) <= LARGEST:
            raise UserError(f"{where}: bndbox.{field}: expected a number, got {shown(text)}")
        corners.append(value)
    left, top, right, bottom = corners
    if right < left or bottom < top:
        raise UserError(f"{where}: bndbox: expected xmin <= xmax, ymin <= ymax, got {corners}")
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult.lower() not in ("0", "1", "true", "false"):
        raise UserError(f"{where}: difficult: expected 0 or 1, got {shown(difficult)}")
    is_difficult = difficult.lower() in ("1", "true")
    return VocObject(name, (left, top, right, bottom), is_difficult)
