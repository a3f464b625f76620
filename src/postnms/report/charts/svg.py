"""Elements of SVG as text, and the scales and axes that charts share.

Lengths are in pixels. Colours are classes of the style sheet, so that they follow light and dark.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

FULL, WIDE, NARROW = 1240, 620, 350
"""Widths of a chart over the whole page, over half of it, and on a narrow screen."""
CHARACTER = 6.3
"""About how wide a character of a label of 11 pixels is."""
SERIES = 6
"""Number of colours of series: classes ``c0`` to ``c5`` of the style sheet."""
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2", "10 4")
"""Dash patterns of the series, so that nobody has to tell them by colour alone."""

Scale = Callable[[float], float]
"""From values to pixels."""


def element(name: str, content: str = "", /, **attributes: object) -> str:
    """Return an element. ``content`` is markup; ``_`` stands for ``-`` in names of attributes.

    A trailing ``_`` is left out, as in ``class_``. Numbers have one digit after the point.

    Example:
        >>> element("rect", x=1.25, class_="a", stroke_width=2)
        '<rect x="1.2" class="a" stroke-width="2"/>'
    """
    parts = [f' {_name(key)}="{_value(value)}"' for key, value in attributes.items()]
    return f"<{name}{''.join(parts)}" + (f">{content}</{name}>" if content else "/>")


def text(x: float, y: float, content: str, /, **attributes: object) -> str:
    """Return a text whose content is escaped."""
    return element("text", escape(content, quote=False), x=x, y=y, **attributes)


def titled(markup: str, title: str) -> str:
    """Return markup with a text that the browser shows where the pointer rests on it."""
    return element("g", element("title", escape(title, quote=False)) + markup)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> str:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def path(points: Sequence[tuple[float, float]], **attributes: object) -> str:
    """Return a line through points, empty without points."""
    if not points:
        return ""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return element("path", d=f"M{steps}", fill="none", **attributes)


def document(width: float, height: float, content: Sequence[str], label: str) -> str:
    """Return a whole drawing.

    ``label`` says what it shows to those who cannot see it. Without one it is decoration.
    """
    spoken = {"role": "img", "aria_label": label} if label else {"aria_hidden": "true"}
    return element(
        "svg",
        "".join(content),
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        **spoken,
    )


def _name(key: str) -> str:
    return key if key == "viewBox" else key.rstrip("_").replace("_", "-")


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return escape(str(value))


@dataclass(frozen=True)
class Frame:
    """The plot area of a chart: its edges in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def x(self, low: float, high: float) -> Scale:
        """Return the scale from values to pixels along x."""
        return _linear(low, high, self.left, self.right)

    def y(self, low: float, high: float) -> Scale:
        """Return the scale from values to pixels along y, upwards."""
        return _linear(low, high, self.bottom, self.top)

    def log_x(self, low: float, high: float) -> Scale:
        """Return the logarithmic scale along x. The bounds are above 0."""
        scale = self.x(math.log10(low), math.log10(high))
        return lambda value: scale(math.log10(value))


def _linear(low: float, high: float, start: float, end: float) -> Scale:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round values between two bounds, at most about ``most`` of them.

    Example:
        >>> ticks(71.3, 78.2)
        [72.0, 74.0, 76.0, 78.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between two bounds above 0.

    Example:
        >>> log_ticks(0.3, 12)
        [0.5, 1.0, 2.0, 5.0, 10.0]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    values = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    values = [value for value in values if low <= value <= high]
    if len(values) > 9:
        values = [value for value in values if f"{value:e}".startswith("1.0")]
    return values


def axes(
    frame: Frame,
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    x_title: str = "",
    y_title: str = "",
) -> list[str]:
    """Return grid, labels and titles of the axes. Ticks are positions in pixels with labels."""
    parts = []
    for x, label in x_ticks:
        parts.append(line(x, frame.top, x, frame.bottom, class_="grid"))
        parts.append(text(x, frame.bottom + 16, label, class_="tick", text_anchor="middle"))
    for y, label in y_ticks:
        parts.append(line(frame.left, y, frame.right, y, class_="grid"))
        parts.append(text(frame.left - 6, y + 4, label, class_="tick", text_anchor="end"))
    parts.append(line(frame.left, frame.bottom, frame.right, frame.bottom, class_="axis"))
    if x_title:
        middle = (frame.left + frame.right) / 2
        parts.append(text(middle, frame.bottom + 34, x_title, class_="title", text_anchor="middle"))
    if y_title:
        parts.append(text(frame.left, frame.top - 10, y_title, class_="title"))
    return parts


def shorten(name: str, width: float) -> str:
    """Return a name that fits into so many pixels, cut in its middle where it is longer."""
    most = max(int(width / CHARACTER), 4)
    if len(name) <= most:
        return name
    half = (most - 1) // 2
    return f"{name[: most - 1 - half]}…{name[len(name) - half :]}"
