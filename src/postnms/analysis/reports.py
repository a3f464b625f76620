"""Comparisons and analyses as files: CSV, JSON and charts in a folder."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from postnms.analysis.comparison import ComparedRow
from postnms.analysis.diagnosis import Analysis
from postnms.analysis.placement import ClusterIoUs, histogram
from postnms.analysis.tuning import Tuned
from postnms.files.atomic import write_json, write_text
from postnms.files.folders import Marker

PLACEMENT = {"KeyIoU": "key", "MaxIoU": "best", "AvgIoU": "mean"}
"""The paper's names of the IoUs of a cluster (Figure 2), and the fields that hold them."""
COMPARED = Marker("compare.json", ("candidates", "rows"))
ANALYSED = Marker("analyse.json", ("candidates", "rows", "placement"))
TUNED = Marker("tune_fusion.json", ("candidates", "rows"))
MARKERS = (COMPARED, ANALYSED, TUNED)
"""The files that mark a folder of reports. One folder may hold several reports."""
NOT_IN_JSON = ("family", "is_variant")
"""Fields of a row that its name tells as well."""


def write_comparison(
    rows: Sequence[ComparedRow], about: Mapping[str, Any], folder: Path
) -> tuple[str, ...]:
    """Write ``compare.csv``, ``compare.json`` and ``compare.png``; return their names.

    ``about`` says where the figures come from. It is written in front of them.
    """
    from postnms.analysis.comparison_chart import plot_comparison

    described = []
    for row in rows:
        fields = dataclasses.asdict(row)
        described.append({name: fields[name] for name in fields if name not in NOT_IN_JSON})
    # The JSON files mark the folder, so they come before the others.
    write_json(folder / COMPARED.name, {**about, "rows": described})
    write_text(folder / "compare.csv", _comparison_csv(rows))
    plot_comparison(rows, folder / "compare.png", about.get("images"))
    return ("compare.csv", "compare.json", "compare.png")


def write_analysis(analysis: Analysis, about: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """Write ``analyse.json`` and the charts of it; return the names of the files.

    ``about`` says where the figures come from. It is written in front of them.
    """
    from postnms.analysis.plots import plot_errors, plot_placement, plot_reliability

    write_json(folder / ANALYSED.name, {**about, **_analysis_json(analysis)})
    plot_errors(analysis, folder / "errors.png")
    plot_reliability(analysis, folder / "reliability.png")
    plot_placement(analysis.before, analysis.after, folder / "placement.png")
    return ("analyse.json", "errors.png", "reliability.png", "placement.png")


def write_tuning(rows: Sequence[Tuned], about: Mapping[str, Any], folder: Path) -> str:
    """Write ``tune_fusion.json``, all weights with their AP, the best first; return its name."""
    described = {
        row.row: {
            "suppressor": None if row.choice is None else row.choice.name,
            "before": row.before,
            "tried": [{"fusion": str(fusion), "AP": precision} for fusion, precision in row.tried],
        }
        for row in rows
    }
    write_json(folder / TUNED.name, {**about, "rows": described})
    return TUNED.name


def _comparison_csv(rows: Sequence[ComparedRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(rows[0].figures)
    writer.writerow(["suppressor", *names, "milliseconds", "gain", "gain_low", "gain_high"])
    for row in rows:
        figures = [row.figures[name] for name in names]
        numbers = [*figures, row.milliseconds, row.gain, row.low, row.high]
        cells = ["" if number is None else f"{number:.6g}" for number in numbers]
        writer.writerow([row.name, *cells])
    return text.getvalue()


def _analysis_json(analysis: Analysis) -> dict[str, Any]:
    placement = {
        "before": describe_placement(analysis.before),
        "after": describe_placement(analysis.after),
    }
    rows = {name: dataclasses.asdict(row) for name, row in analysis.rows.items()}
    return {"recall": analysis.recall, "rows": rows, "placement": placement}


def describe_placement(ious: ClusterIoUs | None) -> dict[str, Any]:
    """Return mean and histogram of every IoU by its name in the paper; empty without IoUs."""
    if ious is None:
        return {}
    described = {}
    for name, field in PLACEMENT.items():
        values = getattr(ious, field)
        described[name] = {
            "mean": values.mean().item() if len(values) else None,
            "histogram": histogram(values).tolist(),
        }
    return described
