"""AP against the time of suppression: a point for each row, with its name beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

from postnms.analysis.ranges import shown_range
from postnms.drawing.labels import Rect, free_place, spots_around
from postnms.report.charts.svg import (
    CHARACTER,
    NARROW,
    Frame,
    Scale,
    axes,
    document,
    element,
    line,
    log_ticks,
    shorten,
    text,
    ticks,
    titled,
)

LABEL = 13
"""Height of a label in pixels."""


@dataclass(frozen=True)
class Point:
    """A row of the chart."""

    name: str
    ap: float
    """In per cent."""
    milliseconds: float | None
    """For an image. None: it was not measured."""
    kind: str
    """``baseline``, ``stage``, ``oracle`` or ``other``: the class of its marker."""
    is_variant: bool = False
    """Whether it differs from another row in a setting alone. Such a point has no label."""


def ap_against_time(points: Sequence[Point], baseline: str, width: float) -> str:
    """Return the chart, empty without a point that has a time.

    The axis of AP is cut to where the rows are. Rows above or below it stand in the margin, and
    rows without a time at the right edge.
    """
    timed = [point.milliseconds for point in points if point.milliseconds]
    if not timed:
        return ""
    precisions = {point.name: point.ap for point in points}
    oracles = frozenset(point.name for point in points if point.kind == "oracle")
    shown = shown_range(precisions, baseline, oracles)
    margins = len(shown.above) + len(shown.below)
    top = 26 + LABEL * len(shown.above)
    height = (420 if width > NARROW else 380) + LABEL * margins
    frame = Frame(46, top, width - 12, height - 44 - LABEL * len(shown.below) - 8)
    y = frame.y(shown.low, shown.high)
    x = frame.log_x(min(timed) * 0.75, max(timed) * (1.9 if width > NARROW else 3))
    parts = axes(
        frame,
        [(x(value), f"{value:g}") for value in log_ticks(min(timed) * 0.75, max(timed) * 1.9)],
        [(y(value), f"{value:g}") for value in ticks(shown.low, shown.high)],
        "milliseconds an image, logarithmic",
    )
    parts.append(text(8, frame.top - 8, "AP", class_="title"))
    level = precisions.get(baseline)
    if level is not None and shown.low <= level <= shown.high:
        parts.append(line(frame.left, y(level), frame.right, y(level), class_="level"))
    inside = [point for point in points if shown.low <= point.ap <= shown.high]
    parts += _points(inside, x, y, frame)
    parts += _margins(points, shown.above, shown.below, frame)
    return document(width, height, parts, "AP against milliseconds an image for each row")


def _margins(
    points: Sequence[Point], above: Sequence[str], below: Sequence[str], frame: Frame
) -> list[str]:
    """Return a line of text for each row that the axis leaves out."""
    of_name = {point.name: point for point in points}
    parts = []
    for names, start, sign in (
        (above, frame.top - 8 - LABEL * (len(above) - 1), "▲"),
        (below, frame.bottom + 52, "▼"),
    ):
        for number, name in enumerate(names):
            point = of_name[name]
            spent = "" if point.milliseconds is None else f", {point.milliseconds:.2g} ms"
            said = f"{sign} {name}: AP {point.ap:.1f}{spent}"
            said = shorten(said, frame.right - frame.left)
            parts.append(text(frame.left, start + LABEL * number, said, class_="margin"))
    return parts


def _points(points: Sequence[Point], x: Scale, y: Scale, frame: Frame) -> list[str]:
    """Return markers, and labels that cover neither a marker nor each other."""
    marks, placed = [], []
    at = {}
    for point in points:
        spent = point.milliseconds
        at[point.name] = (frame.right - 6 if not spent else x(spent), y(point.ap))
        px, py = at[point.name]
        placed.append(Rect(px - 5, py - 5, px + 5, py + 5))
    # The stage and the baseline have the first choice of places.
    order = sorted(points, key=lambda point: (point.kind == "other", point.is_variant, -point.ap))
    for point in order:
        px, py = at[point.name]
        spent = "no time" if not point.milliseconds else f"{point.milliseconds:.3g} ms"
        radius = 3 if point.is_variant else 5
        mark = element("circle", cx=px, cy=py, r=radius, class_=f"point {point.kind}")
        if not point.is_variant:
            mark += _label(point, px, py, frame, placed)
        marks.append(titled(mark, f"{point.name}: AP {point.ap:.2f}, {spent}"))
    return marks


def _label(point: Point, x: float, y: float, frame: Frame, placed: list[Rect]) -> str:
    """Return the label of a point at the nearest free place, empty if there is none."""
    name = shorten(point.name, 190)
    # The names of the stage and of the baseline are bold.
    width = len(name) * CHARACTER * (1 if point.kind == "other" else 1.12) + 4
    bounds = Rect(frame.left, frame.top - 4, frame.right + 8, frame.bottom)
    spot = free_place(spots_around(x, y, width, LABEL), bounds, placed)
    if spot is None:
        return ""
    middle = (spot.top + spot.bottom) / 2
    label = text(spot.left + 2, middle + 4, name, class_=f"label {point.kind}")
    edge = min(max(x, spot.left), spot.right)
    if abs(edge - x) + abs(middle - y) <= 20:
        return label
    return line(x, y, edge, middle, class_="leader") + label
