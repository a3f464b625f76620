"""Charts of analyses and curves, as PNG files.

This file imports Matplotlib, which is slow to load.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from postnms.analysis.diagnosis import Analysis
from postnms.analysis.placement import BINS, ClusterIoUs, histogram
from postnms.drawing.charts import COLOURS, MARKERS, plain, save_chart
from postnms.evaluation.average_precision import RECALLS
from postnms.evaluation.curves import SCORES, SHOWN_IOUS, Curves
from postnms.evaluation.tide import ERROR_TYPES, ErrorTypes


def plot_errors(analysis: Analysis, path: Path) -> None:
    """Write a bar chart of the AP50 that each type of error costs each row.

    Each bar also shows the number of errors. Raises UserError if the operating system refuses to
    write.
    """
    rows = {name: row.errors for name, row in analysis.rows.items()}
    figure = Figure(
        figsize=(10, 2 + 0.35 * len(ERROR_TYPES) * max(len(rows), 1) ** 0.7), layout="constrained"
    )
    axes = figure.add_subplot(
        xlabel="AP50 points that fixing this type alone would gain",
        title="What each type of error costs, and how often it is made",
    )
    height = 0.8 / max(len(rows), 1)
    for number, (name, errors) in enumerate(rows.items()):
        ap50 = "" if errors.ap50 is None else f": AP50 {errors.ap50:.1f}"
        _plot_costs(
            axes, name + ap50, errors, np.arange(len(ERROR_TYPES)) + number * height, height, number
        )
    axes.set_yticks(np.arange(len(ERROR_TYPES)) + 0.4 - height / 2, ERROR_TYPES)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    save_chart(figure, path)


def plot_placement(before: ClusterIoUs, after: ClusterIoUs | None, path: Path) -> None:
    """Write histograms of KeyIoU, MaxIoU and AvgIoU of the clusters (paper: Figure 2).

    They show the IoUs before the stage, and after it unless there are none. Raises UserError if the
    operating system refuses to write.
    """
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    sides = {"before the stage": before} | ({} if after is None else {"after": after})
    figure.suptitle(f"IoU of {len(before.key)} clusters with their object")
    for number, (title, column) in enumerate(
        (("KeyIoU", "key"), ("MaxIoU", "best"), ("AvgIoU", "mean")), 1
    ):
        axes = figure.add_subplot(1, 3, number, xlabel="IoU with the object", ylabel="clusters")
        means = []
        for colour, (side, ious) in zip(COLOURS, sides.items(), strict=False):
            values = getattr(ious, column)
            axes.stairs(
                histogram(values).numpy(),
                np.linspace(0, 1, BINS + 1),
                color=colour,
                label=side,
                linewidth=1.6,
            )
            means.append(f"{values.mean():.3f}" if len(values) else "-")
        axes.set_title(f"{title}: mean {' -> '.join(means)}")
        axes.legend(loc="upper left", fontsize=8, frameon=False)
    save_chart(figure, path)


def plot_reliability(analysis: Analysis, path: Path) -> None:
    """Write the reliability diagram of every row: precision against score, in bins of the score.

    A row on the dashed diagonal has scores that mean what they say. Below the diagonal its scores
    are too high, above it too low. The panel underneath shows the number of detections of each bin.
    Rows have markers as well as colours. The legend says the expected calibration error, and ``-``
    for a row without one, which has no line.

    Raises UserError if the operating system refuses to write.
    """
    figure = Figure(figsize=(9, 7), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.set_title("Are scores what they promise? On the dashed line they are")
    top.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=0.8)
    for number, (name, row) in enumerate(analysis.rows.items()):
        measured = row.calibration
        filled = [bin for bin, count in enumerate(measured.counts) if count]
        look = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "markerfacecolor": "none",  # Rows that lie on each other are both seen.
            "linewidth": 1.4,
        }
        x = [measured.scores[bin] for bin in filled]
        y = [measured.precisions[bin] for bin in filled]
        error = "-" if measured.error is None else f"{measured.error:.3f}"
        label = f"{error} {plain(name)}, {sum(measured.counts)} boxes"
        top.plot(x, y, label=label, **look)
        bottom.plot(x, [measured.counts[bin] for bin in filled], **look)
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="precision at IoU 0.5")
    bottom.set(xlabel="mean score of the bin", ylabel="detections")
    if any(sum(row.calibration.counts) for row in analysis.rows.values()):
        # Matplotlib refuses a logarithmic axis without a positive number.
        bottom.set(yscale="log")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    title = "expected calibration error"
    figure.legend(loc="outside right upper", title=title, fontsize=8, frameon=False)
    save_chart(figure, path)


def plot_curves(curves: Mapping[str, Curves], path: Path) -> None:
    """Write precision over recall, and AP and F1 against the score threshold, of every row.

    Raises UserError if the operating system refuses to write.
    """
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    pr, ap, f1 = (
        figure.add_subplot(1, 3, number, title=title, xlabel=x, ylabel=y)
        for number, (title, x, y) in enumerate(
            (
                ("mean over the classes", "recall", "precision"),
                ("AP of what scores at least this", "score threshold", "AP"),
                ("F1 at IoU 0.5, all classes together", "score threshold", "F1"),
            ),
            1,
        )
    )
    for number, (name, row) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        for iou, line, style in zip(SHOWN_IOUS, row.precision, ("-", "--"), strict=True):
            label = f"{plain(name)}, IoU {iou}"
            pr.plot(RECALLS, line, color=colour, linestyle=style, label=label, linewidth=1.4)
        ap.plot(SCORES, row.ap, color=colour, label=plain(name), linewidth=1.4)
        label = plain(name)
        if row.best is not None:
            label += f": {row.best.f1:.2f} at {row.best.score:.2f}"
        f1.plot(SCORES, row.f1, color=colour, label=label, linewidth=1.4)
    for axes in (pr, ap, f1):
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    save_chart(figure, path)


def _plot_costs(
    axes: Axes, name: str, errors: ErrorTypes, positions: np.ndarray, height: float, number: int
) -> None:
    """Draw the bars of one row, which is the row ``number`` of the chart."""
    costs = [errors.costs[kind] for kind in ERROR_TYPES]
    bars = axes.barh(
        positions, costs, height, color=COLOURS[number % len(COLOURS)], label=plain(name)
    )
    axes.bar_label(
        bars,
        [
            f"{cost:.1f} ({errors.counts[kind]})"
            for cost, kind in zip(costs, ERROR_TYPES, strict=True)
        ],
        padding=2,
        fontsize=7,
    )
