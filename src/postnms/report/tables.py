"""The table of a report: every row with its figures and the interval of its gain."""

from collections.abc import Sequence
from dataclasses import dataclass

from postnms.analysis.oracle import ORACLE
from postnms.evaluation.results import Figures
from postnms.report.compared import RUN
from postnms.report.sources import Source
from postnms.report.subjects import Subject, title_of
from postnms.structures import NMS_ROW, POST_NMS_ROW

KINDS = ("baseline", "stage", "other", "oracle")
"""Kinds of rows, in the order of the table."""


@dataclass(frozen=True)
class TableRow:
    """One line of the table."""

    source: str
    """Name of the detector."""
    name: str
    """Name for people."""
    kind: str
    """One of :data:`KINDS`."""
    figures: Figures
    gain: float | None
    low: float | None
    high: float | None
    milliseconds: float | None
    is_variant: bool

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` than plain NMS if the interval says so, else ``unsure``."""
        if self.low is None or self.high is None or self.kind == "baseline":
            return "unsure"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "unsure"


def table_of(source: Source, subject: Subject | None) -> list[TableRow]:
    """Return the rows of one detector: plain NMS, the stage, the others by falling AP, the oracle.

    The figures of a comparison come first, since they have times. What it does not have comes from
    the rows that were measured.
    """
    rows = {}
    has_nms = any(line.name == NMS_ROW for line in source.lines)
    measured = {} if subject is None else subject.rows
    for line in source.lines:
        name = line.name.removeprefix(RUN)
        # The row of the run is the baseline again, with other settings at most.
        if line.name == RUN + NMS_ROW and has_nms:
            continue
        low, high = line.low, line.high
        if low is None and name in measured:  # The comparison may have left intervals out.
            low, high = measured[name].gain.low, measured[name].gain.high
        rows[name] = TableRow(
            source.name,
            title_of(line.name),
            _kind(name),
            line.figures,
            line.gain,
            low,
            high,
            line.milliseconds,
            ":" in name,
        )
    for name, row in measured.items():
        if name not in rows:
            gain = row.gain
            rows[name] = TableRow(
                source.name, title_of(name), _kind(name), row.figures,
                gain.AP, gain.low, gain.high, None, ":" in name,
            )  # fmt: skip
    return sorted(rows.values(), key=lambda row: (KINDS.index(row.kind), -(row.figures["AP"] or 0)))


def best_of(rows: Sequence[TableRow]) -> TableRow | None:
    """Return the row with the highest AP, the oracle left out."""
    known = [row for row in rows if row.kind != "oracle" and row.figures["AP"] is not None]
    return max(known, key=lambda row: row.figures["AP"] or 0.0, default=None)


def _kind(name: str) -> str:
    if name == ORACLE:
        return "oracle"
    if name == NMS_ROW:
        return "baseline"
    return "stage" if name.startswith((POST_NMS_ROW, "refined ")) else "other"
