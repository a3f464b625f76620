"""Charts of lines: precision over recall, calibration, and where clusters lie."""

from collections.abc import Mapping, Sequence

import numpy as np

from postnms.analysis.placement import BINS, ClusterIoUs, histogram
from postnms.evaluation.average_precision import RECALLS
from postnms.evaluation.calibration import Calibration
from postnms.report.charts.svg import (
    DASHES,
    SERIES,
    Frame,
    axes,
    document,
    element,
    line,
    path,
    text,
    ticks,
    titled,
)

FRACTIONS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Ticks of axes from 0 to 1."""
HIGHEST = 280.0
"""Largest height of a plot area in pixels."""


def precision_over_recall(
    curves: Mapping[str, np.ndarray], level: int, title: str, width: float
) -> str:
    """Return precision over recall of each row at one of the IoU levels of the curves.

    ``curves`` are (2, R), see :class:`postnms.evaluation.curves.Curves`.
    """
    frame, parts = _unit_square(width, title, "recall", "precision")
    x, y = frame.x(0, 1), frame.y(0, 1)
    for number, (name, rows) in enumerate(curves.items()):
        if np.isnan(rows[level]).any():  # There is no object.
            continue
        points = [
            (x(recall), y(value))
            for recall, value in zip(RECALLS.tolist(), rows[level].tolist(), strict=True)
        ]
        mean = float(np.mean(rows[level])) * 100
        parts.append(titled(path(points, **_look(number)), f"{name}: {title} {mean:.1f}"))
    return document(width, frame.bottom + 44, parts, f"Precision over recall, {title}")


def reliability(rows: Mapping[str, Calibration], width: float) -> str:
    """Return precision against score in bins of the score; on the diagonal a score is a share."""
    frame, parts = _unit_square(width, "", "score", "share of right boxes")
    x, y = frame.x(0, 1), frame.y(0, 1)
    parts.append(line(x(0), y(0), x(1), y(1), class_="level"))
    for number, (name, row) in enumerate(rows.items()):
        filled = [
            (score, share, count)
            for score, share, count in zip(row.scores, row.precisions, row.counts, strict=True)
            if score is not None and share is not None
        ]
        points = [(x(score), y(share)) for score, share, _ in filled]
        parts.append(path(points, **_look(number)))
        most = max((count for *_, count in filled), default=1)
        for (px, py), (score, share, count) in zip(points, filled, strict=True):
            radius = 2 + 4 * (count / most) ** 0.5
            dot = element("circle", cx=px, cy=py, r=radius, class_=f"dot c{number % SERIES}")
            said = f"{name}: {count} boxes score {score:.2f}, {100 * share:.0f} % of them are right"
            parts.append(titled(dot, said))
    return document(width, frame.bottom + 44, parts, "Share of right boxes against score")


def placement(sides: Mapping[str, ClusterIoUs], field: str, title: str, width: float) -> str:
    """Return the histogram of one kind of IoU of clusters, before and after the stage."""
    counts = {side: histogram(getattr(ious, field)).tolist() for side, ious in sides.items()}
    most = max((max(values) for values in counts.values()), default=1) or 1
    frame = Frame(50, 40, width - 14, 220)
    x, y = frame.x(0, 1), frame.y(0, most * 1.05)
    parts = axes(
        frame,
        [(x(value), f"{value:g}") for value in FRACTIONS],
        [(y(value), f"{value:g}") for value in ticks(0, most * 1.05, 4)],
        "IoU with the object",
        "clusters",
    )
    means = []
    for number, (side, values) in enumerate(counts.items()):
        points = []
        for place, count in enumerate(values):
            points += [(x(place / BINS), y(count)), (x((place + 1) / BINS), y(count))]
        ious = getattr(sides[side], field)
        means.append(f"{float(ious.mean()):.3f}" if len(ious) else "-")
        parts.append(titled(path(points, **_look(number)), f"{side}: mean {means[-1]}"))
    said = f"{title}: mean {' → '.join(means)}"
    parts.append(text(frame.left, 14, said, class_="heading"))
    return document(width, frame.bottom + 44, parts, said)


def legend(names: Sequence[str]) -> list[dict[str, str]]:
    """Return name, class and dashes of each series, in the order of the charts' lines."""
    return [
        {"name": name, "kind": f"c{number % SERIES}", "dashes": DASHES[number % len(DASHES)]}
        for number, name in enumerate(names)
    ]


def _look(number: int) -> dict[str, object]:
    look: dict[str, object] = {"class_": f"line c{number % SERIES}"}
    if dashes := DASHES[number % len(DASHES)]:
        look["stroke_dasharray"] = dashes
    return look


def _unit_square(width: float, title: str, x: str, y: str) -> tuple[Frame, list[str]]:
    """Return a frame in which both axes go from 0 to 1, and its axes."""
    top = 42 if title else 26
    frame = Frame(46, top, width - 14, top + min(0.72 * (width - 60), HIGHEST))
    to_x, to_y = frame.x(0, 1), frame.y(0, 1)
    parts = axes(
        frame,
        [(to_x(value), f"{value:g}") for value in FRACTIONS],
        [(to_y(value), f"{value:g}") for value in FRACTIONS],
        x,
        y,
    )
    if title:
        parts.append(text(frame.left, 14, title, class_="heading"))
    return frame, parts
