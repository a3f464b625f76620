"""What was measured, as tables for a terminal and in Markdown, as JSON, and as a plot."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postnms.files.atomic import atomic_path
from postnms.speed.clustering import OURS, Comparison, Target, growth, targets
from postnms.speed.pooling import Pooling
from postnms.speed.timing import Timing

VERDICTS = {True: "met", False: "not met", None: "not measured"}


@dataclass(frozen=True)
class Figures:
    """All that ``postnms benchmark`` measures; ``libraries``: versions, None if not installed; memory: bytes a box."""

    libraries: Mapping[str, str | None]
    clustering: Sequence[Comparison]
    bad_inputs: Mapping[str, Timing]
    bad_input_boxes: int
    pooling: Sequence[Pooling]
    memory: Mapping[int, float | None]


@dataclass(frozen=True)
class Sheet:
    """A table with its title."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """For a terminal: the first column to the left, the rest to the right."""
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
        """With the title as a heading."""
        rule = ["---", *("---:" for _ in self.columns[1:])]
        lines = [f"| {' | '.join(row)} |" for row in (self.columns, rule, *self.rows)]
        return "\n".join([f"## {self.title}", "", *lines])


def sheets(figures: Figures) -> list[Sheet]:
    """All tables, in the order of printing."""
    found = [clustering_sheet([row for row in figures.clustering if row.threads == threads], threads)
             for threads in sorted({row.threads for row in figures.clustering})]  # fmt: skip
    found.append(target_sheet(targets(figures.clustering)))
    bad = [[name, *_cells(timing)] for name, timing in figures.bad_inputs.items()]
    found.append(
        Sheet(
            f"Bad input: {figures.bad_input_boxes:,} boxes, one thread",
            ["boxes", "ms", "rounds"],
            bad,
        )
    )
    found.append(pooling_sheet(figures.pooling))
    memory = [
        [f"{count:,}", "not measured here" if each is None else f"{each:.0f}"]
        for count, each in figures.memory.items()
    ]
    found.append(
        Sheet(
            "Memory of clustering at its peak, beyond its input", ["boxes", "bytes a box"], memory
        )
    )
    return found


def clustering_sheet(rows: Sequence[Comparison], threads: int) -> Sheet:
    """Milliseconds of each library (rounds), and how many times as long as ours it takes."""
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


def target_sheet(found: Sequence[Target]) -> Sheet:
    """Wanted, found, met or not."""
    rows = []
    for target in found:
        wanted = f"{'<=' if target.at_most else '>='} {target.wanted:g}"
        figure = "-" if target.found is None else f"{target.found:.2f}"
        rows.append([target.what, wanted, figure, VERDICTS[target.met]])
    return Sheet("Targets, one thread", ["target", "wanted", "found", "verdict"], rows)


def pooling_sheet(rows: Sequence[Pooling]) -> Sheet:
    """Both sides and their ratio."""
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


def library_lines(libraries: Mapping[str, str | None]) -> list[str]:
    """A line a peer."""
    return [
        f"{name}: {'not installed' if found is None else found}"
        for name, found in libraries.items()
    ]


def to_json(figures: Figures, about: Mapping[str, Any]) -> dict[str, Any]:
    """All figures, the targets and where they come from."""
    wanted = [
        {**dataclasses.asdict(target), "met": target.met} for target in targets(figures.clustering)
    ]
    exponents = {name: growth(figures.clustering, name) for name in _names(figures.clustering)}
    known = {name: found for name, found in exponents.items() if found is not None}
    grown = {
        name: {"to_boxes": largest, "exponent": exponent}
        for name, (largest, exponent) in known.items()
    }
    return {**about, **dataclasses.asdict(figures), "growth": grown, "targets": wanted}


def to_markdown(figures: Figures, about: Mapping[str, Any]) -> str:
    """The tables, after machine and versions."""
    own = f"postnms {about['version']} (commit {about['commit'] or 'unknown'}), torch {about['torch']}"
    others = [f"{name} {found or 'not installed'}" for name, found in figures.libraries.items()]
    head = [
        f"- machine: {about['machine']}",
        f"- versions: {', '.join([own, *others])}",
        f"- command: `{about['command']}`",
        "- `-`: not measured; a library is left out from where it would take more than about half a minute",
    ]
    tables = [sheet.markdown() for sheet in sheets(figures)]
    return (
        "\n\n".join(
            ["# postnms benchmark", "\n".join(head), *tables, "![Clustering](clustering.png)"]
        )
        + "\n"
    )


def plot_clustering(rows: Sequence[Comparison], path: Path) -> None:
    """Milliseconds against boxes of one class on one thread, both logarithmic, a line a library."""
    from matplotlib.figure import Figure

    from postnms.drawing.charts import COLOURS, MARKERS

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
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _names(rows: Sequence[Comparison]) -> list[str]:
    """Libraries that were timed, ours first."""
    return list(dict.fromkeys(name for row in rows for name in row.times))


def _cells(timing: Timing) -> tuple[str, str]:
    spent = timing.milliseconds
    return f"{spent:.3g}" if spent < 100 else f"{spent:.0f}", f"{timing.rounds}"


def _shown(timing: Timing | None) -> str:
    return "-" if timing is None else "{} ({})".format(*_cells(timing))


def _power(count: int) -> str:
    return f"{count:.0e}".replace("e+0", "e")
