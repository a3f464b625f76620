"""Charts with a line of dots for each thing: classes, types of errors, gains with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from postnms.report.charts.svg import (
    NARROW,
    SERIES,
    Frame,
    axes,
    document,
    element,
    line,
    shorten,
    text,
    ticks,
    titled,
)

ROW = 24
"""Height in pixels of a line of the chart."""


@dataclass(frozen=True)
class DotRow:
    """One line of the chart: a value of each series for one thing."""

    name: str
    values: Sequence[float | None]
    """One for each series. None: there is none."""
    notes: Sequence[str]
    """What the browser shows at each dot, besides name and value."""


def dot_chart(rows: Sequence[DotRow], series: Sequence[str], title: str, width: float) -> str:
    """Return a chart with one dot for each series on each line, joined by a thin line.

    Markers differ in form as well as in colour. ``title`` names the axis of values.
    """
    values = [value for row in rows for value in row.values if value is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.06 * ((high - low) or 1.0)
    low, high = (0.0 if 0 <= low < 0.35 * high else low - room), high + room
    left = 150 if width > NARROW else 104
    frame = Frame(left, 12, width - 20, 12 + ROW * len(rows))
    x = frame.x(low, high)
    most = 8 if width > NARROW else 5
    marks = [(x(value), f"{value:g}") for value in ticks(low, high, most)]
    parts = axes(frame, marks, [], title)
    for number, row in enumerate(rows):
        y = frame.top + ROW * (number + 0.5)
        label = text(
            left - 8, y + 4, shorten(row.name, left - 12), class_="tick", text_anchor="end"
        )
        parts.append(titled(label, row.name))
        known = [value for value in row.values if value is not None]
        if known:
            parts.append(line(x(min(known)), y, x(max(known)), y, class_="span"))
        for place, (value, note) in enumerate(zip(row.values, row.notes, strict=True)):
            if value is not None:
                said = f"{row.name}, {series[place]}: {value:.1f}{note}"
                parts.append(titled(marker(x(value), y, place), said))
    return document(width, frame.bottom + 44, parts, f"{title} of {', '.join(series)}")


def marker(x: float, y: float, series: int, size: float = 5) -> str:
    """Return the marker of a series: a circle, a square, a diamond or a triangle."""
    kind = f"dot c{series % SERIES}"
    form = series % 4
    if form == 0:
        return element("circle", cx=x, cy=y, r=size, class_=kind)
    if form == 1:
        side = 1.7 * size
        return element("rect", x=x - side / 2, y=y - side / 2, width=side, height=side, class_=kind)
    corners = (
        [(x, y - 1.3 * size), (x + 1.3 * size, y), (x, y + 1.3 * size), (x - 1.3 * size, y)]
        if form == 2
        else [(x, y - 1.2 * size), (x + 1.2 * size, y + size), (x - 1.2 * size, y + size)]
    )
    return element("polygon", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in corners), class_=kind)


def interval(
    gain: float | None, low: float | None, high: float | None, bounds: tuple[float, float]
) -> str:
    """Return a small drawing of a gain and its interval, for a cell of a table.

    ``bounds`` are the ends of the axis, which all cells of a column share and which 0 lies in.
    """
    if gain is None:
        return ""
    width, height = 120.0, 18.0
    frame = Frame(4, 0, width - 4, height)
    x = frame.x(*bounds)

    def at(value: float) -> float:
        return min(max(x(value), frame.left), frame.right)

    parts = [line(x(0), 1, x(0), height - 1, class_="zero")]
    sure = "unsure"
    if low is not None and high is not None:
        sure = "better" if low > 0 else "worse" if high < 0 else "unsure"
        parts.append(line(at(low), height / 2, at(high), height / 2, class_=f"whisker {sure}"))
    parts.append(element("circle", cx=at(gain), cy=height / 2, r=3.5, class_=f"gain {sure}"))
    return document(width, height, parts, "")


def legend(names: Sequence[str]) -> list[dict[str, str]]:
    """Return name and marker of each series, in the order of the dots."""
    return [
        {"name": name, "marker": document(14, 14, [marker(7, 7, number)], "")}
        for number, name in enumerate(names)
    ]


def shared_bounds(gains: Mapping[str, tuple[float | None, ...]]) -> tuple[float, float]:
    """Return the ends of the axis of :func:`interval` for some rows.

    Far outliers are cut, so that the others can be told apart.
    """
    values = sorted(value for row in gains.values() for value in row if value is not None)
    if not values:
        return -1.0, 1.0
    high = max(values[-1], 0.5)
    low = min(values[0], -0.5)
    return max(low, -3 * high), high
