"""Figures over several seeds as text, and tables in Markdown."""

import math
import re
import statistics
from collections.abc import Sequence

from postnms.evaluation.metrics import show
from postnms.experiments.differences import Difference

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def spread(values: Sequence[float | None]) -> str:
    """Return the mean of the figures of all seeds, and how they are spread.

    The spread is the standard deviation of a sample, and the smallest and the largest value.

    Example:
        >>> spread([70.0, 71.0, 72.0])
        '71.0 ± 1.0 (70.0 to 72.0)'
        >>> spread([70.0]), spread([70.0, None])
        ('70.0', '-')
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    if len(known) == 1:
        return show(known[0])
    deviation = statistics.stdev(known)
    low, high = show(min(known)), show(max(known))
    return f"{show(statistics.fmean(known))} ± {show(deviation)} ({low} to {high})"


def mean(values: Sequence[float | None], digits: int = 1) -> str:
    """Return the mean of the figures of all seeds, ``-`` if one of them is undefined.

    Example:
        >>> mean([1.0, 2.0]), mean([1.0, None])
        ('1.5', '-')
    """
    known = [value for value in values if value is not None]
    return show(statistics.fmean(known) if len(known) == len(values) else None, digits)


def gains(difference: Difference) -> list[str]:
    """Return the difference of each seed, the mean and the interval, with signs.

    Example:
        >>> gains(Difference((1.0, 2.5), 1.75, 0.5, 3.0))
        ['+1.00', '+2.50', '**+1.75**', '+0.50 to +3.00']
    """
    interval = "-"
    if difference.low is not None and difference.high is not None:
        interval = f"{difference.low:+.2f} to {difference.high:+.2f}"
    each = [_signed(value) for value in difference.per_seed]
    # With one seed, its difference is the mean.
    head = each if len(each) > 1 else []
    return [*head, f"**{_signed(difference.mean)}**", interval]


def _signed(value: float) -> str:
    """Return a difference with its sign, ``-`` where it is undefined (NaN)."""
    return "-" if math.isnan(value) else f"{value:+.2f}"


def in_words(names: Sequence[str]) -> str:
    """Return names as an enumeration.

    Example:
        >>> in_words(["0", "1", "2"]), in_words(["0"])
        ('0, 1 and 2', '0')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Return a table in Markdown.

    Example:
        >>> print(table(["a", "b"], [["1", "`x|y`"]]))
        | a | b |
        |---|---|
        | 1 | `x\|y` |
    """
    lines = [[one_line(cell).replace("|", "\\|") for cell in row] for row in (heads, *rows)]
    texts = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([texts[0], f"|{'---|' * len(heads)}", *texts[1:]])


def one_line(text: str) -> str:
    """Return a text in one line, without characters that control a terminal."""
    return _CONTROL.sub(" ", text)
