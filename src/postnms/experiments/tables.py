"""Figures over several seeds as text, and tables in Markdown."""

import math
import re
import statistics
from collections.abc import Sequence

from postnms.evaluation.metrics import show
from postnms.experiments.intervals import Estimate

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def spread(values: Sequence[float | None], digits: int = 1) -> str:
    """Return the mean of the figures of all seeds, and how they are spread.

    The spread is the standard deviation of a sample, and the smallest and the largest value. All
    numbers have so many ``digits`` after the point.

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
        return show(known[0], digits)
    low, high = show(min(known), digits), show(max(known), digits)
    return f"{mean_and_deviation(known, digits)} ({low} to {high})"


def mean_and_deviation(values: Sequence[float | None], digits: int = 1) -> str:
    """Return the mean of the figures of all seeds, and their standard deviation.

    Example:
        >>> mean_and_deviation([70.0, 71.0, 72.0])
        '71.0 ± 1.0'
        >>> mean_and_deviation([70.0]), mean_and_deviation([70.0, None])
        ('70.0', '-')
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "-"
    if len(known) == 1:
        return show(known[0], digits)
    deviation = show(statistics.stdev(known), digits)
    return f"{show(statistics.fmean(known), digits)} ± {deviation}"


def mean(values: Sequence[float | None], digits: int = 1) -> str:
    """Return the mean of the figures of all seeds, ``-`` if one of them is undefined.

    Example:
        >>> mean([1.0, 2.0]), mean([1.0, None])
        ('1.5', '-')
    """
    known = [value for value in values if value is not None]
    return show(statistics.fmean(known) if len(known) == len(values) else None, digits)


def number(value: float | None, form: str) -> str:
    """Return a number as text, ``-`` where there is none or it is undefined (NaN).

    ``form`` is a format specification of Python.
    """
    return "-" if value is None or math.isnan(value) else f"{value:{form}}"


def interval(estimate: Estimate, form: str) -> str:
    """Return an interval, ``-`` if there is none. ``form`` is a format specification of Python."""
    if estimate.low is None or estimate.high is None:
        return "-"
    return f"{estimate.low:{form}} to {estimate.high:{form}}"


def cells(
    seeds: Sequence[int], found: Sequence[int], estimate: Estimate | None, form: str
) -> list[str]:
    """Return the figure of each seed, the mean and the interval, ``-`` for what is not there.

    With one seed, its figure is the mean, and stands there once.

    Args:
        seeds: all seeds, in the order of the cells.
        found: the seeds that the estimate is of, in the order of its figures.
        estimate: the figures.
        form: how a number is written, as Python's format specification.

    Example:
        >>> cells([0, 1], [0, 1], Estimate((1.0, 2.5), 1.75, 0.5, 3.0), "+.2f")
        ['+1.00', '+2.50', '**+1.75**', '+0.50 to +3.00']
        >>> cells([7], [7], Estimate((1.0,), 1.0, None, None), ".1f")
        ['**1.0**', '-']
    """
    figures = {} if estimate is None else dict(zip(found, estimate.per_seed, strict=True))
    each = [number(figures.get(seed), form) for seed in seeds]
    mean_of_all, between = "-", "-"
    if estimate is not None:
        mean_of_all = f"**{number(estimate.mean, form)}**"
        between = interval(estimate, form)
    return [*(each if len(each) > 1 else []), mean_of_all, between]


def heads(seeds: Sequence[int]) -> list[str]:
    """Return the heads of :func:`cells`.

    Example:
        >>> heads([0, 1]), heads([7])
        (['seed 0', 'seed 1', 'mean', '95 % interval'], ['seed 7', '95 % interval'])
    """
    return [*(f"seed {seed}" for seed in seeds), *(["mean"] * (len(seeds) > 1)), "95 % interval"]


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
