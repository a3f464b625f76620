"""The charts of a report, each in a wide and a narrow form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from postnms.evaluation.metrics import show
from postnms.evaluation.tide import ERROR_TYPES
from postnms.report.charts import dots, lines, scatter
from postnms.report.charts.svg import FULL, NARROW, SERIES, WIDE
from postnms.report.measured import MeasuredRow
from postnms.report.subjects import Subject, title_of
from postnms.report.tables import TableRow

MOST_CLASSES = 40
"""Largest number of classes in the chart. The table under it has all."""


@dataclass(frozen=True)
class Chart:
    """A drawing of a page."""

    wide: str
    """SVG."""
    narrow: str
    title: str = ""
    """What the drawing is of, where there are several."""


@dataclass(frozen=True)
class Section:
    """A part of a page that shows one thing in charts."""

    id: str
    title: str
    text: str
    """What there is to be seen, and how to read it."""
    charts: tuple[Chart, ...]
    legend: tuple[dict[str, str], ...] = ()
    columns: tuple[str, ...] = ()
    """Heads of the table under the charts."""
    rows: tuple[tuple[str, ...], ...] = field(default=())
    """The same numbers as a table."""
    is_full: bool = False
    """Whether the section is as wide as the page, not half of it."""


def sections_of(subjects: Sequence[Subject], table: Sequence[TableRow]) -> list[Section]:
    """Return all sections with charts, in their order. Those with nothing to show are left out."""
    named = _named_rows(subjects)
    found = [_time(table)]
    if named:
        found += [_classes(named), _precision(named), _errors(named), _calibration(named)]
    found += [_placement(subject, len(subjects) > 1) for subject in subjects]
    return [section for section in found if section is not None]


def _named_rows(subjects: Sequence[Subject]) -> dict[str, MeasuredRow]:
    """Return the rows of the charts by their names for people, as many as there are colours."""
    several = len(subjects) > 1
    named = {}
    for subject in subjects:
        names = list(subject.rows)[: 2 if several else None]
        for name in names:
            before = f"{subject.source.name}: " if several else ""
            named[before + title_of(name)] = subject.rows[name]
    return dict(list(named.items())[:SERIES])


def _both(draw: Callable[[float], str], wide: float = WIDE) -> Chart:
    return Chart(draw(wide), draw(NARROW))


def _time(table: Sequence[TableRow]) -> Section | None:
    sources = list(dict.fromkeys(row.source for row in table))
    charts = []
    for source in sources:
        rows = [row for row in table if row.source == source and row.figures["AP"] is not None]
        points = [
            scatter.Point(
                row.name, row.figures["AP"] or 0.0, row.milliseconds, row.kind, row.is_variant
            )
            for row in rows
        ]
        baseline = next((row.name for row in rows if row.kind == "baseline"), "")
        chart = _both(partial(scatter.ap_against_time, points, baseline), FULL)
        if chart.wide:
            charts.append(replace(chart, title=source if len(sources) > 1 else ""))
    if not charts:
        return None
    return Section(
        "time",
        "AP against time",
        "Higher is better, and further left is faster. The line is the AP of NMS. The axis of AP "
        "is cut to where the rows are; what lies beyond it is named in the margin. Rows at the "
        "right edge have no time of their own. The time of the stage includes its networks, that "
        "of the others is suppression alone.",
        tuple(charts),
        is_full=True,
    )


def _classes(rows: Mapping[str, MeasuredRow]) -> Section | None:
    """Return AP by class, the classes with the largest differences first."""
    names = list(rows)
    of_class = list(zip(*(row.classes for row in rows.values()), strict=True))
    lines_of = [
        dots.DotRow(
            figures[0].name,
            [entry.AP for entry in figures],
            [f", AP50 {show(entry.AP50)}" for entry in figures],
        )
        for figures in of_class
        if any(entry.AP is not None for entry in figures)
    ]
    if not lines_of:
        return None
    lines_of.sort(key=lambda row: -_spread(row.values))
    shown = lines_of[:MOST_CLASSES]
    left_out = len(lines_of) - len(shown)
    more = f" The {left_out} other classes are in the table." if left_out else ""
    table = tuple(
        (figures[0].name, *(f"{show(entry.AP)} ({show(entry.AP50)})" for entry in figures))
        for figures in of_class
    )
    return Section(
        "classes",
        "AP by class",
        f"The classes in which the rows differ most come first.{more}",
        (_both(lambda width: dots.dot_chart(shown, names, "AP", width)),),
        tuple(dots.legend(names)),
        ("class", *(f"{name}: AP (AP50)" for name in names)),
        table,
    )


def _spread(values: Sequence[float | None]) -> float:
    known = [value for value in values[:2] if value is not None]
    return max(known) - min(known) if known else -1.0


def _precision(rows: Mapping[str, MeasuredRow]) -> Section:
    curves = {name: row.precision for name, row in rows.items()}
    half = (WIDE - 22) / 2
    charts = [
        Chart(
            lines.precision_over_recall(curves, level, title, half),
            lines.precision_over_recall(curves, level, title, NARROW),
        )
        for level, title in enumerate(("AP50", "AP75"))
    ]
    return Section(
        "curves",
        "Precision over recall",
        "COCO's interpolated precision at IoU 0.5 and 0.75, the mean over the classes. The mean "
        "height of a curve is the AP at that IoU.",
        tuple(charts),
        tuple(lines.legend(list(rows))),
    )


def _errors(rows: Mapping[str, MeasuredRow]) -> Section:
    names = list(rows)
    lines_of = [
        dots.DotRow(
            kind,
            [row.errors.costs[kind] for row in rows.values()],
            [f" AP50 lost by {row.errors.counts[kind]} errors" for row in rows.values()],
        )
        for kind in ERROR_TYPES
    ]
    table = tuple(
        (kind, *(f"{r.errors.costs[kind]:.1f} ({r.errors.counts[kind]})" for r in rows.values()))
        for kind in ERROR_TYPES
    )
    return Section(
        "errors",
        "Types of errors",
        "How much AP50 would rise if all errors of one type, and no others, were mended (TIDE). "
        "Further left is better. Localisation: the right class, IoU from 0.1 to 0.5. "
        "Classification: a good box of the wrong class. Both: both at once. Duplicate: the object "
        "has a better box. Background: no object there. Missed: no box was meant for the object.",
        (_both(lambda width: dots.dot_chart(lines_of, names, "AP50 lost", width)),),
        tuple(dots.legend(names)),
        ("type", *(f"{name}: AP50 lost (errors)" for name in names)),
        table,
    )


def _calibration(rows: Mapping[str, MeasuredRow]) -> Section | None:
    measured = {name: row.calibration for name, row in rows.items()}
    if all(row.error is None for row in measured.values()):
        return None
    table = tuple(
        (
            name,
            show(row.calibration.error, 3),
            *([show(None)] * 4 if row.best is None else
              [f"{value:.3f}" for value in
               (row.best.score, row.best.f1, row.best.precision, row.best.recall)]),
        )
        for name, row in rows.items()
    )  # fmt: skip
    return Section(
        "calibration",
        "What scores mean",
        "Boxes in ten bins of their score, and the share of them that is right at IoU 0.5. On the "
        "diagonal a score of 0.8 means right in 80 % of the cases; below it scores promise too "
        "much. Larger dots stand for more boxes. The error is the mean distance from the diagonal.",
        (_both(lambda width: lines.reliability(measured, width)),),
        tuple(lines.legend(list(rows))),
        ("row", "calibration error", "best score threshold", "its F1", "precision", "recall"),
        table,
    )


def _placement(subject: Subject, several: bool) -> Section | None:
    if subject.placement is None or not len(subject.placement[0].key):
        return None
    before, after = subject.placement
    sides = {"before the stage": before} | ({} if after is None else {"after it": after})
    width = (FULL - 40) / 3
    kinds = {"KeyIoU": "key", "MaxIoU": "best", "AvgIoU": "mean"}
    charts = [
        Chart(
            lines.placement(sides, field, title, width),
            lines.placement(sides, field, title, NARROW),
        )
        for title, field in kinds.items()
    ]
    name = f": {subject.source.name}" if several else ""
    return Section(
        f"placement-{subject.source.name}" if several else "placement",
        f"Where clusters lie{name}",
        f"IoU of the members of {len(before.key)} clusters with their object, as in Figure 2 of "
        "the paper: of the key, which is the box that NMS keeps, of the best member, and the mean "
        "of all members. The further right, the better.",
        tuple(charts),
        tuple(lines.legend(list(sides))),
        is_full=True,
    )


def intervals_of(table: Sequence[TableRow]) -> list[str]:
    """Return the drawing of the gain of each row of the table, on one axis for each detector."""
    drawn = []
    for row in table:
        others: dict[str, Any] = {
            other.name: (other.gain, other.low, other.high)
            for other in table
            if other.source == row.source and other.kind != "oracle"
        }
        bounds = dots.shared_bounds(others)
        is_other = row.kind in ("stage", "other")
        drawn.append(dots.interval(row.gain, row.low, row.high, bounds) if is_other else "")
    return drawn
