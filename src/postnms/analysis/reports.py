"""Comparisons and analyses as CSV and JSON."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

from postnms.analysis.comparison import ComparedRow
from postnms.analysis.diagnosis import Analysis
from postnms.analysis.placement import histogram

_PLACEMENT = {"KeyIoU": "key", "MaxIoU": "best", "AvgIoU": "mean"}


def _comparison_csv(rows: Sequence[ComparedRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(rows[0].figures)
    writer.writerow(["suppressor", *names, "milliseconds", "gain", "gain_low", "gain_high"])
    for row in rows:
        numbers = [
            *(row.figures[name] for name in names),
            row.milliseconds,
            row.gain,
            row.low,
            row.high,
        ]
        writer.writerow(
            [row.name, *("" if number is None else f"{number:.6g}" for number in numbers)]
        )
    return text.getvalue()


def _analysis_json(analysis: Analysis) -> dict[str, Any]:
    sides = {"before": analysis.before, "after": analysis.after}
    placement: dict[str, Any] = {}
    for side, ious in sides.items():
        columns: Mapping[str, Any] = (
            {} if ious is None else {name: getattr(ious, c) for name, c in _PLACEMENT.items()}
        )
        placement[side] = {
            name: {
                "mean": values.mean().item() if len(values) else None,
                "histogram": histogram(values).tolist(),
            }
            for name, values in columns.items()
        }
    rows = {name: dataclasses.asdict(row) for name, row in analysis.rows.items()}
    return {"recall": analysis.recall, "rows": rows, "placement": placement}
