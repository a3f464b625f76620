"""A reader of label files in YOLO format: one object a line, with the number of its class first.

A line is ``class x y width height``, the centre and the sides of a box, or ``class x1 y1 x2 y2 x3
y3 ...``, the corners of a polygon, which becomes the smallest box around it. All numbers are shares
of the width and the height of the image. They are separated by blanks or tabs. Lines without text
are skipped, and so an empty file says that the image has no object.
"""

import math
import re
from collections.abc import Container
from pathlib import Path

from postnms.data.formats.annotated import AnnotatedBox
from postnms.errors import UserError, shown, shown_path

SLACK = 0.1
"""How far a share may lie outside [0, 1].

Tools round, and draw polygons over the border. Such boxes are clipped like those of any format. A
number that is farther outside was most likely written in pixels.
"""
MOST_BYTES = 2**26
"""Largest number of bytes of a label file."""
_LINE_END = re.compile(r"\r\n?|\n")
"""The end of a line on any system: three boxes in one line would look like a polygon."""


def read_labels(path: Path, size: tuple[int, int], classes: Container[int]) -> list[AnnotatedBox]:
    """Return the objects of an image.

    Args:
        path: the label file.
        size: (height, width) of the image in pixels.
        classes: the numbers of the classes.

    Raises:
        UserError: the file cannot be read or a line has another form. The message begins with the
            path and the number of the line.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{shown_path(path)}: expected at most {MOST_BYTES} bytes of labels")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{shown_path(path)}: could not be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{shown_path(path)}: not UTF-8 at byte {error.start}") from error
    boxes = []
    for number, line in enumerate(_LINE_END.split(text), 1):
        if words := line.split():
            boxes.append(_read_line(words, size, classes, f"{shown_path(path)}:{number}"))
    return boxes


def _read_line(
    words: list[str], size: tuple[int, int], classes: Container[int], where: str
) -> AnnotatedBox:
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        raise UserError(
            f"{where}: expected a class and 4 numbers of a box, or a class and at least 3 pairs of "
            f"numbers of a polygon, got {len(words)} words"
        )
    try:
        first, *numbers = map(float, words)
    except ValueError as error:
        raise UserError(f"{where}: expected numbers, got {shown(' '.join(words))}") from error
    if not first.is_integer() or int(first) not in classes:
        raise UserError(f"{where}: class: expected one of {shown(classes)}, got {words[0]:.30}")
    outside = [number for number in numbers if not -SLACK <= number <= 1 + SLACK]
    if outside:
        hint = "; are these pixels?" if all(map(math.isfinite, outside)) else ""
        raise UserError(
            f"{where}: expected shares of the image from 0 to 1, got {outside[0]:g}{hint}"
        )
    height, width = size
    if len(numbers) == 4:
        x, y, w, h = numbers
        if w < 0 or h < 0:
            raise UserError(f"{where}: expected sides of at least 0, got {w:g} and {h:g}")
        left, top = x - w / 2, y - h / 2
    else:
        left, top = min(numbers[::2]), min(numbers[1::2])
        w, h = max(numbers[::2]) - left, max(numbers[1::2]) - top
    return AnnotatedBox([left * width, top * height, w * width, h * height], int(first))
