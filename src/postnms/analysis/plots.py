"""Plots of comparisons and analyses, as PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from postnms.analysis.comparison import BASELINE, ComparedRow
from postnms.analysis.diagnosis import Analysis
from postnms.analysis.placement import histogram
from postnms.drawing.charts import COLOURS, MARKERS, _save
from postnms.evaluation.tide import ERROR_TYPES, ErrorTypes


def plot_comparison(rows: Sequence[ComparedRow], path: Path) -> None:
    """AP against milliseconds an image: a colour and marker a suppressor, sweeps as lines, the rest as levels."""
    series: dict[str, list[ComparedRow]] = {}
    for row in rows:
        series.setdefault(row.name.split(":")[0], []).append(row)
    best = {
        name: max(row.figures["AP"] or 0.0 for row in of_name) for name, of_name in series.items()
    }
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.add_subplot(
        xscale="log", xlabel="milliseconds an image (suppression alone)", ylabel="AP"
    )
    for number, name in enumerate(sorted(series, key=lambda name: -best[name])):
        marker = MARKERS[number // len(COLOURS) % len(MARKERS)]
        _plot_series(
            axes, series[name], COLOURS[number % len(COLOURS)], marker, f"{best[name]:.1f} {name}"
        )
    greedy = next((row.figures["AP"] for row in rows if row.name == BASELINE), None)
    if greedy is not None:
        axes.axhline(greedy, color="black", linewidth=0.6)
    axes.grid(alpha=0.3, which="both")
    for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatted(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.legend(loc="outside right upper", title="best AP", fontsize=8, frameon=False)
    _save(figure, path)


def plot_errors(analysis: Analysis, path: Path) -> None:
    """What each type of error costs each row, in AP50."""
    rows = {name: row.errors for name, row in analysis.rows.items()}
    figure = Figure(
        figsize=(10, 2 + 0.35 * len(ERROR_TYPES) * max(len(rows), 1) ** 0.7), layout="constrained"
    )
    axes = figure.add_subplot(xlabel="AP50 points that fixing this type alone would gain")
    height = 0.8 / max(len(rows), 1)
    for number, (name, errors) in enumerate(rows.items()):
        _plot_costs(
            axes, name, errors, np.arange(len(ERROR_TYPES)) + number * height, height, number
        )
    axes.set_yticks(np.arange(len(ERROR_TYPES)) + 0.4 - height / 2, ERROR_TYPES)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    _save(figure, path)


def plot_placement(analysis: Analysis, path: Path) -> None:
    """Histograms of KeyIoU, MaxIoU and AvgIoU of positive clusters, before and after the stage (paper: Figure 2)."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    sides = {"before the stage": analysis.before} | (
        {"after": analysis.after} if analysis.after else {}
    )
    for number, (title, column) in enumerate(
        (("KeyIoU", "key"), ("MaxIoU", "best"), ("AvgIoU", "mean")), 1
    ):
        axes = figure.add_subplot(1, 3, number, xlabel="IoU with the object", ylabel="clusters")
        means = []
        for colour, (side, ious) in zip(COLOURS, sides.items(), strict=False):
            values = getattr(ious, column)
            axes.stairs(
                histogram(values).numpy(),
                np.linspace(0, 1, 21),
                color=colour,
                label=side,
                linewidth=1.6,
            )
            means.append(f"{values.mean():.3f}" if len(values) else "-")
        axes.set_title(f"{title}: mean {' -> '.join(means)}")
        axes.legend(loc="upper left", fontsize=8, frameon=False)
    _save(figure, path)


def _plot_series(
    axes: Axes, rows: Sequence[ComparedRow], colour: str, marker: str, label: str
) -> None:
    """A larger marker is the suppressor with its defaults, the line its sweeps in their order."""
    points = [(row.milliseconds, row.figures["AP"] or 0.0) for row in rows]
    if any(spent is None for spent, _ in points):
        axes.axhline(
            max(ap for _, ap in points), color=colour, linestyle="--", linewidth=0.9, label=label
        )
        return
    swept = [point for point, row in zip(points, rows, strict=True) if ":" in row.name]
    for chosen, size, line in (
        (swept, 4, "-"),
        ([point for point in points if point not in swept], 8, ""),
    ):
        if chosen:
            x, y = zip(*chosen, strict=True)
            axes.plot(
                x,
                y,
                color=colour,
                marker=marker,
                markersize=size,
                linestyle=line,
                linewidth=0.8,
                label=label,
            )
            label = "_nolegend_"


def _plot_costs(
    axes: Axes, name: str, errors: ErrorTypes, places: np.ndarray, height: float, number: int
) -> None:
    costs = [errors.costs[kind] for kind in ERROR_TYPES]
    bars = axes.barh(places, costs, height, color=COLOURS[number % len(COLOURS)], label=name)
    axes.bar_label(bars, [f"{cost:.1f} ({errors.counts[kind]})" for cost, kind in zip(costs, ERROR_TYPES, strict=True)],
                   padding=2, fontsize=7)  # fmt: skip
