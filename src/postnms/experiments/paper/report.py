"""The paper's figures beside ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from postnms.evaluation.metrics import show
from postnms.experiments.comparison import Comparison
from postnms.experiments.intervals import Estimate
from postnms.experiments.paper.printed import PaperRow, PaperTable
from postnms.experiments.plan import Side
from postnms.experiments.tables import (
    in_words,
    interval,
    mean_and_deviation,
    number,
    table,
)

Sign = Literal["yes", "no", "unclear", "-"]
"""Whether a gain has the sign of the paper's. ``unclear``: its interval contains 0. ``-``: the
paper has no gain or one of 0.0, or ours is not known or can be nothing but 0."""
HEADS = ("paper's gain", "our gain", "95 % interval", "same sign")


@dataclass(frozen=True)
class Line:
    """A row of the paper beside ours."""

    row: PaperRow
    seeds: tuple[int, ...]
    """The seeds that our figures are of."""
    ours: Mapping[str, tuple[float | None, ...]]
    """By the name of a figure, its value for each of the seeds, in per cent."""
    paper_gain: float | None
    """AP minus AP of the reference row as the paper prints them. None: it does not."""
    gain: Estimate | None
    """Our gain. None: there is no reference row, or runs are missing."""
    planned: int
    """Number of seeds of the experiment."""

    @property
    def sign(self) -> Sign:
        """Whether our gain has the sign of the paper's."""
        return same_sign(self.paper_gain, self.gain)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold of it."""
        return {
            "row": self.row.label,
            "side": self.row.side,
            "reference": self.row.reference,
            "of_seeds": list(self.seeds),
            "paper": dict(self.row.figures),
            "ours": {name: list(values) for name, values in self.ours.items()},
            "paper_gain": self.paper_gain,
            "gain": None if self.gain is None else self.gain.to_json(),
            "same_sign": self.sign,
        }


def same_sign(paper: float | None, ours: Estimate | None) -> Sign:
    """Compare the signs of a gain of the paper and of ours.

    Example:
        >>> same_sign(1.9, Estimate((1.0,), 1.0, 0.2, 1.8))
        'yes'
        >>> same_sign(1.9, Estimate((1.0,), 1.0, -0.2, 1.8))
        'unclear'
    """
    if not paper or ours is None or ours.low is None or ours.high is None or _rows_are_equal(ours):
        return "-"
    if ours.low <= 0 <= ours.high:
        return "unclear"
    return "yes" if (ours.low > 0) == (paper > 0) else "no"


def _rows_are_equal(gain: Estimate) -> bool:
    """Return whether a gain is that of equal rows, as of plain NMS on one frozen detector."""
    return gain.low == gain.mean == gain.high == 0


def lines_of(comparison: Comparison, paper: PaperTable) -> list[Line]:
    """Return the rows of a table beside ours, in the order of the table.

    Raises:
        UserError: as :meth:`Comparison.difference`.
    """
    rows = {row.label: row for row in paper.rows}
    return [
        _line(comparison, paper, row, None if row.reference is None else rows[row.reference])
        for row in paper.rows
    ]


def _line(
    comparison: Comparison, paper: PaperTable, row: PaperRow, reference: PaperRow | None
) -> Line:
    side = _side(row)
    runs = comparison.of_side(side)
    measured = [comparison.figures(run, side.row) for run in runs]
    paper_gain = gain = None
    if reference is not None:
        gain = comparison.difference(side, _side(reference))
        if "AP" in row.figures and "AP" in reference.figures:
            paper_gain = round(row.figures["AP"] - reference.figures["AP"], 1)
    return Line(
        row,
        tuple(run.run.seed for run in runs),
        {name: tuple(part[name] for part in measured) for name in paper.columns},
        paper_gain,
        gain,
        len(comparison.plan.experiment.config.seeds),
    )


def _side(row: PaperRow) -> Side:
    arm, _, name = row.side.partition(".")
    return Side(arm, name)


def heads_of(paper: PaperTable) -> list[str]:
    """Return the heads of the cells of :func:`cells_of`."""
    figures = [text for name in paper.columns for text in (f"paper's {name}", f"our {name}")]
    return ["row", *figures, *HEADS]


def cells_of(line: Line) -> list[str]:
    """Return a line as text: each figure of the paper and ours, then both gains and the sign."""
    figures = [
        text
        for name, values in line.ours.items()
        for text in (show(line.row.figures.get(name)), mean_and_deviation(values))
    ]
    ours = between = "-"
    if line.gain is not None:
        ours, between = number(line.gain.mean, "+.2f"), interval(line.gain, "+.2f")
    # A mean over some of the seeds is not to be compared with one over all of them unawares.
    some = f" ({len(line.seeds)} of {line.planned} seeds)"
    label = line.row.label + (some if 0 < len(line.seeds) < line.planned else "")
    return [label, *figures, number(line.paper_gain, "+.1f"), ours, between, line.sign]


def sentence(lines: Sequence[Line]) -> str:
    """Return one sentence that says in how many rows the sign agrees with the paper's."""
    asked = [
        line
        for line in lines
        if line.paper_gain and (line.gain is None or not _rows_are_equal(line.gain))
    ]
    counts = {sign: sum(line.sign == sign for line in asked) for sign in ("yes", "unclear", "no")}
    text = (
        f"The sign of the gain is the paper's in {counts['yes']} of {len(asked)} rows, unclear in "
        f"{counts['unclear']} and another one in {counts['no']}"
    )
    left = len(asked) - sum(counts.values())
    return f"{text}; rows without an interval: {left}." if left else f"{text}."


def section(paper: PaperTable, lines: Sequence[Line]) -> list[str]:
    """Return the table in Markdown, and what has to be known to read it."""
    note = (
        "Ours: the mean over the seeds and their standard deviation. A gain is AP minus AP of a "
        "reference row. Its sign is unclear if the interval contains 0. Rows that are equal, as "
        "those of plain NMS on one frozen detector, do not count. The paper's figures are those "
        f"of COCO. {_references(lines)}"
    )
    shown = table(heads_of(paper), [cells_of(line) for line in lines])
    return ["## The paper and these runs", shown, note]


def _references(lines: Sequence[Line]) -> str:
    """Return the sentence that says which row each row is compared with."""
    rows: dict[str, list[str]] = {}
    for line in lines:
        if line.row.reference is not None:
            rows.setdefault(line.row.reference, []).append(f'"{line.row.label}"')
    if len(rows) == 1:
        return f'The reference row is "{next(iter(rows))}".'
    named = [f'"{reference}" for {in_words(labels)}' for reference, labels in rows.items()]
    return f"The reference rows are {'; '.join(named)}."
