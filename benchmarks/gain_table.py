"""A table of results, printed in Markdown row by row, with the gain over its first row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postnms.data.dataset import Truth
from postnms.evaluation.bootstrap import gain_interval, resampled_precisions
from postnms.evaluation.matching import match_results
from postnms.evaluation.metrics import measure
from postnms.evaluation.results import Result


class Table:
    """Rows of figures, each with its gain in AP over the first one.

    Args:
        title: what the rows are measured on.
        truth: the annotations of all images of the results.
    """

    def __init__(self, title: str, truth: Truth) -> None:
        self.truth = truth
        self.rows: dict[str, dict[str, Any]] = {}
        self.first: NDArray[np.float64] | None = None
        print(f"\n| {title} | AP | AP50 | AP75 | gain (95 %) | gain of each seed |")
        print("|---|---|---|---|---|---|", flush=True)

    def add_uses(self, name: str, found: Sequence[Mapping[str, list[Result]]]) -> None:
        """Measure each use of a setting. There is one entry for each seed."""
        for use in found[0]:
            self.add(f"{name}: {use}", [one[use] for one in found])

    def add(self, name: str, by_seed: Sequence[list[Result]]) -> None:
        """Measure the results of each seed. The interval is that of the mean gain."""
        matchings = [match_results(self.truth, results) for results in by_seed]
        figures = [measure(self.truth, matching).figures for matching in matchings]
        means = {key: _mean([one[key] for one in figures]) for key in figures[0]}
        drawn = np.mean([resampled_precisions(matching, 1000, 0) for matching in matchings], axis=0)
        self.first = drawn if self.first is None else self.first
        low, high = gain_interval(self.first, drawn)
        baseline = next(iter(self.rows.values()))["AP"] if self.rows else means["AP"]
        gains = [one["AP"] - baseline for one in figures]
        gain = float(np.mean(gains))
        self.rows[name] = {**means, "gain": gain, "low": low, "high": high, "of_seeds": gains}
        shown = " | ".join(f"{means[key]:.2f}" for key in ("AP", "AP50", "AP75"))
        of_seeds = ", ".join(f"{one:+.2f}" for one in gains)
        interval = f"{gain:+.2f} ({low:+.2f} to {high:+.2f})"
        print(f"| {name} | {shown} | {interval} | {of_seeds} |", flush=True)


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean, None where the figure is undefined."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
