"""Pictures of detections, drawn with PIL.

Each class has its colour. A box carries a small text label with its class and score. Several
pictures can be put side by side, for example to compare two results.
"""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from postnms.drawing.labels import Rect, free_place, spots_of_box
from postnms.files.atomic import atomic_path

PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#F0E442",
    "#7F5FC0",
    "#8C564B",
    "#5F9E0F",
)
"""Colours of the classes, extended from the palette of Okabe and Ito.

Colour-blind people can tell that palette apart. Class i has colour i modulo the number of colours.
"""

THIN = "#FFE45C"
"""Colour of boxes that were suppressed."""

SHORTEST_SIDE = 480
"""Length in pixels to which the shorter side of a small image is enlarged.

The factor is rounded to a whole number. Labels would not be readable in a smaller picture.
"""

LONGEST_SIDE = 4096
"""Largest length in pixels to which the longer side of an image is enlarged."""

LONGEST_STEM = 200
"""Largest number of bytes of the name of a picture that are taken from the name of its image."""

Box = Sequence[float]
"""Coordinates x1, y1, x2, y2 in pixels."""


def draw_boxes(
    image: Image.Image,
    boxes: Sequence[Box],
    labels: Sequence[int],
    names: Sequence[str],
    scores: Sequence[float] | None = None,
    min_score: float = 0.0,
    suppressed: Sequence[Box] = (),
) -> Image.Image:
    """Return a copy of an image with boxes drawn on it.

    A small image is enlarged by a whole factor first, see :data:`SHORTEST_SIDE` and
    :data:`LONGEST_SIDE`. The boxes are scaled with it.

    Args:
        image: RGB image. It is not changed.
        boxes: corners x1, y1, x2, y2 of each box, in pixels of ``image``.
        labels: class of each box, 0..K-1.
        names: name of each class. They are read only with ``scores``.
        scores: score of each box. Boxes are then drawn by rising score, so that the best box is on
            top, and each gets a text label with its class and score. No label covers another one:
            a box for whose label there is no place has none. None: the boxes are drawn in the
            given order, without text labels.
        min_score: least score of a box that is drawn. It has no effect without ``scores``.
        suppressed: further boxes, which are drawn thin and under the others.

    Example:
        >>> from PIL import Image
        >>> from postnms.drawing.boxes import draw_boxes
        >>> picture = draw_boxes(Image.new("RGB", (300, 240)), [(20, 30, 90, 80)], [0], ["car"])
        >>> picture.size  # enlarged by 2
        (600, 480)
        >>> picture.getpixel((40, 60))  # the corner of the box
        (0, 114, 178)
    """
    factor = max(1, min(round(SHORTEST_SIDE / min(image.size)), LONGEST_SIDE // max(image.size)))
    picture = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    line = max(2, round(min(picture.size) / 220))
    font = ImageFont.load_default(size=max(11, round(min(picture.size) / 42)))
    for box in suppressed:
        corners = [coordinate * factor for coordinate in box]
        draw.rectangle(corners, outline=THIN, width=1)
    # The best box comes last, since later boxes are drawn over earlier ones.
    order = (
        range(len(boxes)) if scores is None else sorted(range(len(boxes)), key=scores.__getitem__)
    )
    drawn = [index for index in order if scores is None or scores[index] >= min_score]
    places = {index: [coordinate * factor for coordinate in boxes[index]] for index in drawn}
    for index in drawn:
        colour = PALETTE[labels[index] % len(PALETTE)]
        draw.rectangle(places[index], outline=colour, width=line)
    taken: list[Rect] = []
    # The label of the best box has the first choice of a place.
    for index in reversed(drawn if scores is not None else []):
        text = f"{names[labels[index]]} {scores[index]:.2f}" if scores is not None else ""
        x1, y1, x2, y2 = places[index]
        colour = PALETTE[labels[index] % len(PALETTE)]
        _label(draw, picture.size, (x1, y1, x2, y2), text, colour, font, taken)
    return picture


def side_by_side(panels: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Return one RGB picture with all panels in a row, each under its title.

    The picture is as high as the highest panel and the bar of titles above the panels. The
    background is white.

    Args:
        panels: RGB images, at least one, from left to right.
        titles: one title for each panel.

    Raises:
        ValueError: if there are not as many titles as panels.

    Example:
        >>> from PIL import Image
        >>> from postnms.drawing.boxes import side_by_side
        >>> panels = [Image.new("RGB", (100, 320)), Image.new("RGB", (50, 320))]
        >>> side_by_side(panels, ["before", "after"]).size  # a gap of 6 and a bar of 24 pixels
        (156, 344)
    """
    height = max(panel.height for panel in panels)
    bar = max(24, height // 16)
    font = ImageFont.load_default(size=bar * 0.62)
    gap = bar // 4
    width = sum(panel.width for panel in panels) + gap * (len(panels) - 1)
    sheet = Image.new("RGB", (width, height + bar), "white")
    draw = ImageDraw.Draw(sheet)
    left = 0
    for panel, title in zip(panels, titles, strict=True):
        sheet.paste(panel, (left, bar))
        draw.text((left + panel.width / 2, bar / 2), title, fill="#222222", font=font, anchor="mm")
        left += panel.width + gap
    return sheet


def picture_stem(path: Path) -> str:
    """Return what the name of an image gives to that of its picture: without its ending, and cut.

    A file system limits the bytes of a name. There is room for a number and an ending.
    """
    return path.stem.encode(errors="replace")[:LONGEST_STEM].decode(errors="ignore")


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as a PNG file.

    The file appears only when it is complete. Missing folders are created.

    Raises:
        UserError: if the operating system refuses. An older file of this name is left as it was.
    """
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def _label(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: tuple[float, float, float, float],
    text: str,
    colour: str,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    taken: list[Rect],
) -> None:
    """Draw text on a filled rectangle at a box, where no other label is; else draw nothing.

    ``size`` is the (width, height) of the picture, which the rectangle lies in. ``taken`` are the
    places of other labels.
    """
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width = right - left + 4
    height = bottom - top + 4
    spots = (_inside(spot, size) for spot in spots_of_box(box, width, height))
    spot = free_place(spots, Rect(0, 0, max(size[0], width), max(size[1], height)), taken)
    if spot is not None:
        draw.rectangle((spot.left, spot.top, spot.right, spot.bottom), fill=colour)
        place = (spot.left + 2 - left, spot.top + 2 - top)
        draw.text(place, text, fill=_readable_on(colour), font=font)


def _inside(spot: Rect, size: tuple[int, int]) -> Rect:
    """Return a place moved so that it lies in a picture of ``size`` (width, height)."""
    width, height = spot.right - spot.left, spot.bottom - spot.top
    left = min(max(spot.left, 0), max(size[0] - width, 0))
    top = min(max(spot.top, 0), max(size[1] - height, 0))
    return Rect(left, top, left + width, top + height)


def _readable_on(colour: str) -> str:
    """Return black for text on a bright colour and white for text on a dark one."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    # Luma of the standard ITU-R BT.601: how bright a colour looks, from 0 to 255.
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
