"""The chart of a comparison: AP against the time of suppression, as a PNG file.

This file imports Matplotlib, which is slow to load.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from postnms.analysis.comparison import BASELINE, ComparedRow
from postnms.analysis.oracle import ORACLE
from postnms.analysis.ranges import ShownRange, shown_range
from postnms.drawing.charts import COLOURS, MARKERS, plain, save_chart
from postnms.drawing.labels import Rect, free_place, spots_around

LABEL = (5.6, 12.0)
"""Width of a character and height of a label, in pixels at 100 dots per inch."""


def plot_comparison(rows: Sequence[ComparedRow], path: Path, images: int | None = None) -> None:
    """Write a chart of AP against the time of suppression for an image.

    Each family of suppressors has a colour and a marker, and a line joins its variants. Its name
    stands at its default settings, where there is room. A family without times, or with times of 0,
    is a dashed level at its best AP. A thin black level is the AP of the baseline. The axis of AP
    is cut to where the rows are; the title names the rows beyond it. The axis of the time is
    logarithmic. The legend lists the families by falling best AP.

    ``images`` is the number of images, for the title. Raises UserError if the operating system
    refuses to write.
    """
    series: dict[str, list[ComparedRow]] = {}
    for row in rows:
        series.setdefault(row.family, []).append(row)
    best = {
        name: max(row.figures["AP"] or 0.0 for row in members) for name, members in series.items()
    }
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.add_subplot(
        xscale="log", xlabel="milliseconds an image (suppression alone)", ylabel="AP"
    )
    for number, name in enumerate(sorted(series, key=lambda name: -best[name])):
        marker = MARKERS[number // len(COLOURS) % len(MARKERS)]
        _plot_series(
            axes,
            series[name],
            COLOURS[number % len(COLOURS)],
            marker,
            f"{best[name]:.1f} {plain(name)}",
        )
    greedy = next((row.figures["AP"] for row in rows if row.name == BASELINE), None)
    if greedy is not None:
        axes.axhline(greedy, color="black", linewidth=0.6)
    axes.grid(alpha=0.3, which="both")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    # Matplotlib writes powers of ten on a logarithmic axis. Plain numbers are easier to read here.
    for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatted(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.legend(loc="outside right upper", title="best AP", fontsize=8, frameon=False)
    precisions = {row.name: row.figures["AP"] or 0.0 for row in rows}
    shown = shown_range(precisions, BASELINE, frozenset({ORACLE}))
    axes.set_ylim(shown.low, shown.high)
    axes.set_title(_title(len(rows), images, shown, precisions), fontsize=10)
    _label_points(figure, axes, rows)
    save_chart(figure, path)


def _title(
    rows: int, images: int | None, shown: ShownRange, precisions: Mapping[str, float]
) -> str:
    """Return how many rows and images there are, and which rows the axis leaves out."""
    said = f"AP of {rows} rows" + ("" if images is None else f" on {images} images")
    for where, names in (("above", shown.above), ("below", shown.below)):
        if names:
            listed = [f"{plain(name)} {precisions[name]:.1f}" for name in names[:4]]
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            said += f"\n{where} the axis: {', '.join(listed)}{more}"
    return said


def _label_points(figure: Figure, axes: Axes, rows: Sequence[ComparedRow]) -> None:
    """Write the names of the rows with default settings at their points, where there is room."""
    figure.draw_without_rendering()  # It lays the axes out, so that pixels are known.
    area = axes.get_window_extent()
    bounds = Rect(area.x0, -area.y1, area.x1, -area.y0)
    points = {
        row.name: (row.milliseconds, row.figures["AP"] or 0.0) for row in rows if row.milliseconds
    }
    pixels = {}
    for name, point in points.items():
        x, y = axes.transData.transform(point)
        if bounds.holds(Rect(x, -y, x, -y)):
            pixels[name] = (x, -y)
    taken = [Rect(x - 5, y - 5, x + 5, y + 5) for x, y in pixels.values()]
    named = [row for row in rows if row.name in pixels and not row.is_variant]
    for row in sorted(named, key=lambda row: (row.name != BASELINE, -(row.figures["AP"] or 0.0))):
        x, y = pixels[row.name]
        width, height = LABEL[0] * len(row.name) + 4, LABEL[1]
        spot = free_place(spots_around(x, y, width, height), bounds, taken)
        if spot is not None:
            middle = (spot.top + spot.bottom) / 2
            scale = 72 / figure.dpi
            axes.annotate(
                plain(row.name),
                points[row.name],
                xytext=((spot.left - x) * scale, (y - middle) * scale),
                textcoords="offset points",
                fontsize=7,
                verticalalignment="center",
                arrowprops={"arrowstyle": "-", "linewidth": 0.4, "alpha": 0.5},
            )


def _plot_series(
    axes: Axes, rows: Sequence[ComparedRow], colour: str, marker: str, label: str
) -> None:
    """Draw one family of suppressors.

    A large marker is the suppressor with its default settings. The line joins its variants in
    their order.
    """
    points = [(row.milliseconds, row.figures["AP"] or 0.0) for row in rows]
    # Without a time a row has no position on the x-axis, so it is drawn as a level. The time of a
    # file without images is 0, which has no position on a logarithmic axis either.
    if not all(spent for spent, _ in points):
        axes.axhline(
            max(ap for _, ap in points), color=colour, linestyle="--", linewidth=0.9, label=label
        )
        return
    swept = [point for point, row in zip(points, rows, strict=True) if row.is_variant]
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
            # The legend names a family once, although it may have two sets of points.
            label = "_nolegend_"
