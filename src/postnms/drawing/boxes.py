"""Pictures of detections, with PIL: boxes in class colours, small labels, panels side by side."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

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
"""Told apart by colour-blind people too (after Okabe and Ito); class i has colour i modulo its length."""

SHORTEST_SIDE = 480
"""Smaller images are enlarged to this, so that labels can be read."""

LONGEST_SIDE = 4096
"""But no longer than this."""

Box = Sequence[float]


def draw_boxes(
    image: Image.Image,
    boxes: Sequence[Box],
    labels: Sequence[int],
    names: Sequence[str],
    scores: Sequence[float] | None = None,
    min_score: float = 0.0,
) -> Image.Image:
    """The RGB image with its boxes (x1, y1, x2, y2 in its pixels), best score on top; without scores no labels."""
    factor = max(1, min(round(SHORTEST_SIDE / min(image.size)), LONGEST_SIDE // max(image.size)))
    picture = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    line = max(2, round(min(picture.size) / 220))
    font = ImageFont.load_default(size=max(11, round(min(picture.size) / 42)))
    order = (
        range(len(boxes)) if scores is None else sorted(range(len(boxes)), key=scores.__getitem__)
    )
    for index in order:
        if scores is not None and scores[index] < min_score:
            continue
        corners = [coordinate * factor for coordinate in boxes[index]]
        colour = PALETTE[labels[index] % len(PALETTE)]
        draw.rectangle(corners, outline=colour, width=line)
        if scores is not None:
            text = f"{names[labels[index]]} {scores[index]:.2f}"
            _label(draw, picture.size, (corners[0], corners[1]), text, colour, font)
    return picture


def side_by_side(panels: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Panels of equal height in a row, each under its title."""
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


def _label(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    corner: tuple[float, float],
    text: str,
    colour: str,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    """Text on a filled tag above the corner, moved so that it stays in the picture."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = min(max(corner[0], 0), max(size[0] - width, 0))
    y = min(max(corner[1] - height, 0), max(size[1] - height, 0))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + 2 - left, y + 2 - top), text, fill=_readable_on(colour), font=font)


def _readable_on(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
