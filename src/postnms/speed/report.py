"""Reports of the measured speed: tables for a terminal and in Markdown, JSON, and a plot."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postnms.files.folders import Marker
from postnms.speed.clustering import OURS, Comparison, Target, growth, targets
from postnms.speed.pooling import Pooling
from postnms.speed.surroundings import Work
from postnms.speed.timing import Timing

MARKER = Marker("benchmark.json", ("clustering", "growth", "targets"))
"""The file that marks a folder as one of measurements."""
VERDICTS = {True: "met", False: "not met", None: "not measured"}
"""Text of :attr:`Target.met` in a table."""


@dataclass(frozen=True)
class Figures:
    """All that ``postnms benchmark`` measures."""

    libraries: Mapping[str, str | None]
    """Version of each peer by name, or None if it is not installed."""
    clustering: Sequence[Comparison]
    bad_inputs: Mapping[str, Timing]
    """Time of ``cluster_nms`` on each bad input, by name."""
    bad_input_boxes: int
    """Number of boxes of each bad input."""
    pooling: Sequence[Pooling]
    memory: Mapping[int, float | None]
    """Peak bytes of clustering per box, by number of boxes, or None if it cannot be measured."""
    surroundings: Sequence[Work]
    """Times of the stage, of an evaluation and of reading."""


@dataclass(frozen=True)
class Sheet:
    """A table with its title.

    Example:
        >>> from postnms.speed.report import Sheet
        >>> print(Sheet("Speed", ["library", "ms"], [["postnms", "1.5"], ["other", "10"]]).text())
        Speed
        library   ms
        postnms  1.5
        other     10
    """

    title: str
    columns: Sequence[str]
    """Headings of the columns."""
    rows: Sequence[Sequence[str]]
    """One text for each column."""

    def text(self) -> str:
        """Return the table for a terminal.

        The first column is aligned to the left and the others to the right.
        """
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [self.title]
        for first, *rest in (self.columns, *self.rows):
            cells = [
                first.ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)),
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        """Return the table in Markdown, with the title as a heading of level 2."""
        rule = ["---", *("---:" for _ in self.columns[1:])]
        lines = [f"| {' | '.join(row)} |" for row in (self.columns, rule, *self.rows)]
        return "\n".join([f"## {self.title}", "", *lines])


def sheets(figures: Figures) -> list[Sheet]:
    """Return all tables, in the order in which they are printed."""
    tables = []
    for threads in sorted({row.threads for row in figures.clustering}):
        rows = [row for row in figures.clustering if row.threads == threads]
        tables.append(clustering_sheet(rows, threads))
    tables.append(target_sheet(targets(figures.clustering)))
    bad = [[name, *_cells(timing)] for name, timing in figures.bad_inputs.items()]
    tables.append(
        Sheet(
            f"Bad input: {figures.bad_input_boxes:,} boxes, one thread",
            ["boxes", "ms", "rounds"],
            bad,
        )
    )
    tables.append(pooling_sheet(figures.pooling))
    tables.append(surroundings_sheet(figures.surroundings))
    memory = [
        [f"{count:,}", "not measured here" if each is None else f"{each:.0f}"]
        for count, each in figures.memory.items()
    ]
    tables.append(
        Sheet(
            "Memory of clustering at its peak, beyond its input", ["boxes", "bytes a box"], memory
        )
    )
    return tables


def clustering_sheet(rows: Sequence[Comparison], threads: int) -> Sheet:
    """Return the table of one number of threads, with a row for each scene.

    The columns are the milliseconds of each library, with the number of rounds in brackets, and the
    time of each peer over ours. A dash stands for a library that was not timed.
    """
    names = _names(rows)
    peers = [name for name in names if name != OURS]
    columns = [
        "boxes",
        "groups",
        *(f"{name} ms" for name in names),
        *(f"{name} / ours" for name in peers),
    ]
    cells = []
    for row in rows:
        ratios = ["-" if (ratio := row.ratio(name)) is None else f"{ratio:.1f}" for name in peers]
        cells.append(
            [
                f"{row.boxes:,}",
                f"{row.groups}",
                *(_shown(row.times.get(name)) for name in names),
                *ratios,
            ]
        )
    shown = "1 thread" if threads == 1 else f"{threads} threads"
    return Sheet(f"Clustering, {shown}: median milliseconds (rounds)", columns, cells)


def target_sheet(results: Sequence[Target]) -> Sheet:
    """Return the table of targets, with limit, measured value and verdict."""
    rows = []
    for target in results:
        wanted = f"{'<=' if target.at_most else '>='} {target.wanted:g}"
        figure = "-" if target.found is None else f"{target.found:.2f}"
        rows.append([target.what, wanted, figure, VERDICTS[target.met]])
    return Sheet("Targets, one thread", ["target", "wanted", "found", "verdict"], rows)


def pooling_sheet(rows: Sequence[Pooling]) -> Sheet:
    """Return the table of pooling, with a row for each size and pass.

    The columns at the end are the milliseconds of both libraries, with the number of rounds in
    brackets, and the time of torchvision over ours.
    """
    columns = [
        "images",
        "channels",
        "side",
        "boxes",
        "threads",
        "pass",
        "ours ms",
        "torchvision ms",
        "ratio",
    ]
    cells = []
    for row in rows:
        size = (
            f"{number}" for number in (row.images, row.channels, row.side, row.boxes, row.threads)
        )
        ratio = f"{row.theirs.milliseconds / row.ours.milliseconds:.1f}"
        cells.append([*size, row.direction, _shown(row.ours), _shown(row.theirs), ratio])
    return Sheet("Pooling a pyramid: median milliseconds (rounds)", columns, cells)


def surroundings_sheet(rows: Sequence[Work]) -> Sheet:
    """Return the table of the stage, an evaluation and reading, with the same work side by side.

    The columns at the end are the least milliseconds that the machine needs, the measured time over
    them, and what the machine has to do at least. A dash stands for a limit that is not known.
    """
    columns = ["work", "size", "threads", "ms (rounds)", "limit ms", "times the limit", "the limit"]
    order = list(dict.fromkeys(row.what for row in rows))
    cells = []
    for row in sorted(rows, key=lambda row: order.index(row.what)):
        least = "-" if row.limit_milliseconds is None else _milliseconds(row.limit_milliseconds)
        ratio = "-" if row.ratio is None else f"{row.ratio:.1f}"
        measured = [f"{row.threads}", _shown(row.timing), least, ratio, row.limit or "-"]
        cells.append([row.what, row.size, *measured])
    return Sheet("Stage, evaluation and data: median milliseconds (rounds)", columns, cells)


def library_lines(libraries: Mapping[str, str | None]) -> list[str]:
    """Return one line for each peer, with its version."""
    return [
        f"{name}: {'not installed' if number is None else number}"
        for name, number in libraries.items()
    ]


def to_json(figures: Figures, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return all figures, the growth of each library, and the targets, as JSON-able values.

    ``about`` tells where the figures come from. Its entries are put before them.
    """
    target_entries = [
        {**dataclasses.asdict(target), "met": target.met} for target in targets(figures.clustering)
    ]
    exponents = {name: growth(figures.clustering, name) for name in _names(figures.clustering)}
    known = {name: grown for name, grown in exponents.items() if grown is not None}
    grown = {
        name: {"to_boxes": largest, "exponent": exponent}
        for name, (largest, exponent) in known.items()
    }
    return {**about, **dataclasses.asdict(figures), "growth": grown, "targets": target_entries}


def to_markdown(figures: Figures, about: Mapping[str, Any]) -> str:
    """Return a page in Markdown with the machine, the versions and all tables.

    ``about`` needs the entries machine, version, commit, torch and command.
    """
    commit = about["commit"] or "unknown"
    ours = f"postnms {about['version']} (commit {commit}), torch {about['torch']}"
    others = [f"{name} {number or 'not installed'}" for name, number in figures.libraries.items()]
    head = [
        f"- machine: {about['machine']}",
        f"- versions: {', '.join([ours, *others])}",
        f"- command: `{about['command']}`",
        "- `-` means not measured. "
        "A library is skipped at sizes where it would take more than about half a minute.",
    ]
    tables = [sheet.markdown() for sheet in sheets(figures)]
    return (
        "\n\n".join(
            ["# postnms benchmark", "\n".join(head), *tables, "![Clustering](clustering.png)"]
        )
        + "\n"
    )


def plot_clustering(rows: Sequence[Comparison], path: Path) -> None:
    """Write a plot of the time of each library against the number of boxes, as a PNG file.

    It shows scenes of one group on one thread, with logarithmic axes. The legend gives the slope,
    which is the exponent of the growth.
    """
    # Matplotlib is slow to load, and only this function needs it.
    from matplotlib.figure import Figure

    from postnms.drawing.charts import COLOURS, MARKERS, save_chart

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot(
        xscale="log", yscale="log", xlabel="boxes of one class", ylabel="milliseconds, 1 thread"
    )
    alone = [row for row in rows if (row.groups, row.threads) == (1, 1)]
    for number, name in enumerate(_names(alone)):
        points = [(row.boxes, row.times[name].milliseconds) for row in alone if name in row.times]
        sizes, spent = zip(*points, strict=True)
        grown = growth(rows, name)
        label = (
            name
            if grown is None
            else f"{name}: slope {grown[1]:.2f} from 1e4 to {_power(grown[0])}"
        )
        axes.plot(sizes, spent, color=COLOURS[number], marker=MARKERS[number], label=label)
    axes.grid(alpha=0.3, which="both")
    if axes.lines:
        axes.legend(frameon=False)
    save_chart(figure, path)


def _names(rows: Sequence[Comparison]) -> list[str]:
    """Return the names of the libraries that were timed, ours first."""
    return list(dict.fromkeys(name for row in rows for name in row.times))


def _cells(timing: Timing) -> tuple[str, str]:
    """Return the milliseconds and the number of rounds as texts."""
    return _milliseconds(timing.milliseconds), f"{timing.rounds}"


def _milliseconds(spent: float) -> str:
    """Return milliseconds with three digits, or as a whole number from 100 on."""
    return f"{spent:.3g}" if spent < 100 else f"{spent:.0f}"


def _shown(timing: Timing | None) -> str:
    """Return the milliseconds with the number of rounds in brackets, or a dash without a timing."""
    return "-" if timing is None else "{} ({})".format(*_cells(timing))


def _power(count: int) -> str:
    """Return a round number in the form 1e4."""
    return f"{count:.0e}".replace("e+0", "e")
