"""A reader of ``metadata.jsonl``, which describes a folder of images as Hugging Face does.

A line is a JSON object with ``file_name`` and ``objects``. The objects are lists side by side,
``{"bbox": [[x, y, width, height], ...], "categories": [...]}``, or a list of objects with such
fields. The list of the classes may also be called ``category``. A class is a number or a name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postnms.data.formats.fields import check_object, is_text, read_bbox, read_whole
from postnms.errors import UserError, shown, shown_path
from postnms.files.json_files import LIMITS, JsonLimits, parse_json

CLASS_FIELDS = ("categories", "category", "labels", "label")
"""Names of the list of the classes, in the order in which they are looked for."""


@dataclass(frozen=True)
class MetadataLine:
    """One image."""

    file_name: str
    """Relative to the folder of the file."""
    size: tuple[int, int] | None
    """(height, width) in pixels. None: the line does not say it."""
    boxes: tuple[list[float], ...]
    """[x, y, width, height] of each object, in pixels."""
    classes: tuple[int | str, ...]
    """Number or name of the class of each object."""
    annotated: bool
    """Whether the line has ``objects``."""


def read_metadata(path: Path, limits: JsonLimits = LIMITS) -> list[MetadataLine]:
    """Read the lines of a file, in their order. Lines without text are skipped.

    Raises UserError that begins with the path and the number of the line if one has another form,
    or if two lines are of the same image.
    """
    lines = []
    known: dict[str, str] = {}
    for where, text in _lines(path, limits):
        line = _read_line(parse_json(text, where), where)
        if line.file_name in known:
            name = shown(line.file_name)
            raise UserError(f"{where}: file_name: {name} is also that of {known[line.file_name]}")
        known[line.file_name] = where
        lines.append(line)
    return lines


def _lines(path: Path, limits: JsonLimits) -> Iterator[tuple[str, str]]:
    where = shown_path(path)
    try:
        size = path.stat().st_size
        if size > limits.file:
            raise UserError(f"{where}: expected at most {limits.file} bytes, got {size}")
        with path.open(encoding="utf-8-sig") as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield f"{where}:{number}", text
    except OSError as error:
        raise UserError(f"{where}: could not be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: malformed JSON (not UTF-8)") from error


def _read_line(entry: Any, where: str) -> MetadataLine:
    check_object(entry, where)
    name = entry.get("file_name")
    if not is_text(name) or not name or "\0" in name:
        raise UserError(f"{where}: file_name: expected the name of an image, got {shown(name)}")
    objects = entry.get("objects")
    boxes, classes = _columns([] if objects is None else objects, f"{where}: objects")
    read = tuple(
        read_bbox(box, f"{where}: objects.bbox[{index}]") for index, box in enumerate(boxes)
    )
    for index, value in enumerate(classes):
        if not is_text(value) and read_whole(value) is None:
            raise UserError(
                f"{where}: objects: class {index}: expected a number or a name, got {shown(value)}"
            )
    kinds = tuple(value if isinstance(value, str) else int(value) for value in classes)
    return MetadataLine(name, _size(entry), read, kinds, objects is not None)


def _columns(objects: Any, where: str) -> tuple[list[Any], list[Any]]:
    """Return the boxes and the classes of the objects, two lists of the same length."""
    if isinstance(objects, list):
        for index, found in enumerate(objects):
            check_object(found, f"{where}[{index}]")
        keys = {key for found in objects for key in found}
        objects = {key: [found.get(key) for found in objects] for key in keys}
        if not objects:
            return [], []
    check_object(objects, where)
    boxes = objects.get("bbox")
    field = next((name for name in CLASS_FIELDS if name in objects), CLASS_FIELDS[0])
    classes = objects.get(field)
    for name, column in (("bbox", boxes), (field, classes)):
        if not isinstance(column, list):
            raise UserError(f"{where}.{name}: expected a list, got {shown(column)}")
    if len(boxes) != len(classes):
        raise UserError(
            f"{where}: expected as many classes as boxes, got {len(classes)} and {len(boxes)}"
        )
    return boxes, classes


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    height, width = (read_whole(entry.get(field)) for field in ("height", "width"))
    return (height, width) if height and width and height > 0 and width > 0 else None
