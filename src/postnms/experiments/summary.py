"""What an experiment comes to: AP of its arms and its differences, with their intervals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from postnms.experiments.comparison import Comparison
from postnms.experiments.config import BEST
from postnms.experiments.intervals import Estimate
from postnms.experiments.plan import Side


@dataclass(frozen=True)
class Result:
    """AP of a row of an arm."""

    asked: Side
    """The side as the file names it: its row may be ``best`` or ``best_heuristic``."""
    side: Side
    """The side with the name of its row."""
    seeds: Sequence[int]
    """The seeds whose runs are finished."""
    estimate: Estimate | None
    """AP, of these seeds. None: there are none."""


@dataclass(frozen=True)
class Difference:
    """AP of a side minus AP of another one. The other fields are those of :class:`Result`."""

    asked: tuple[Side, Side]
    sides: tuple[Side, Side]
    seeds: Sequence[int]
    """The seeds for which the runs of both sides are finished."""
    estimate: Estimate | None


@dataclass(frozen=True)
class Summary:
    """The results and differences of an experiment."""

    comparison: Comparison
    results: Sequence[Result]
    """The row that counts of each arm, each followed by the best suppressor on the candidates of
    the arm, if suppressors are replayed on them."""
    differences: Sequence[Difference]
    """Those that the file asks for, in its order."""

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold of it."""
        plan = self.comparison.plan
        config = plan.experiment.config
        return {
            "experiment": config.title,
            "seeds": list(config.seeds),
            "missing": self.comparison.missing,
            "best_heuristic": {
                arm: self.comparison.best(arm) for arm in plan.counted if plan.replays(arm)
            },
            "results": [
                {**asdict(result.side), "asked": result.asked.row, **_figures(result)}
                for result in self.results
            ],
            "differences": [
                {
                    "left": asdict(difference.sides[0]),
                    "right": asdict(difference.sides[1]),
                    **_figures(difference),
                }
                for difference in self.differences
            ],
        }


def _figures(part: Result | Difference) -> dict[str, Any]:
    estimate = None if part.estimate is None else part.estimate.to_json()
    return {"of_seeds": list(part.seeds), "AP": estimate}


def summarize(comparison: Comparison) -> Summary:
    """Return the results and differences that the file of an experiment asks for.

    Raises:
        UserError: as :meth:`Comparison.difference`.
    """
    plan = comparison.plan
    asked: list[Side] = []
    for arm, side in plan.counted.items():
        asked.append(side)
        if plan.replays(arm) and side.row != BEST:
            asked.append(Side(arm, BEST))
    results = [
        Result(side, comparison.named(side), comparison.seeds(side), comparison.precision(side))
        for side in asked
    ]
    differences = [
        Difference(
            (left, right),
            (comparison.named(left), comparison.named(right)),
            comparison.seeds(left, right),
            comparison.difference(left, right),
        )
        for left, right in plan.differences
    ]
    return Summary(comparison, results, differences)
