"""The range of AP in which the rows of a comparison differ, for the axes of charts."""

from collections.abc import Mapping
from dataclasses import dataclass

LEAST_HALF = 1.0
"""Smallest distance in AP from the baseline to either end of the range."""
HOPELESS = 1.5
"""A row is left out of the range if it is further below the baseline than this many times the
distance from the baseline to the best row, and further than :data:`LEAST_BELOW`."""
LEAST_BELOW = 3.0


@dataclass(frozen=True)
class ShownRange:
    """Where an axis of AP is cut."""

    low: float
    """Lower end of the axis, in per cent."""
    high: float
    below: tuple[str, ...]
    """Names of the rows under the axis, the best first."""
    above: tuple[str, ...]
    """Names of the rows over the axis, the best first: the oracle."""


def shown_range(
    precisions: Mapping[str, float], baseline: str | None, oracles: frozenset[str]
) -> ShownRange:
    """Return the range of AP that shows how rows differ.

    An oracle sees the truth, so it may lie far above. Some rows are hopeless and lie far below.
    With either of them on the axis, all others would lie on each other.

    Args:
        precisions: AP in per cent of each row, at least one.
        baseline: the row that others are compared with. None, or not there: the median of them.
        oracles: names of rows that are no competitors.

    Example:
        >>> rows = {"nms": 75.0, "soft_nms": 76.0, "none": 30.0, "oracle": 90.0}
        >>> shown = shown_range(rows, "nms", frozenset({"oracle"}))
        >>> round(shown.low, 1), round(shown.high, 1), shown.below, shown.above
        (73.8, 76.2, ('none',), ('oracle',))
    """
    rows = {name: ap for name, ap in precisions.items() if name not in oracles} or dict(precisions)
    ordered = sorted(rows.values())
    middle = (
        rows.get(baseline, ordered[len(ordered) // 2]) if baseline else ordered[len(ordered) // 2]
    )
    best = ordered[-1]
    least = middle - max(HOPELESS * (best - middle), LEAST_BELOW)
    inside = {name: ap for name, ap in rows.items() if ap >= least}
    low = min(*inside.values(), middle - LEAST_HALF)
    high = max(best, middle + LEAST_HALF)
    room = 0.12 * (high - low)
    low, high = max(low - room, 0.0), min(high + room, 100.0)
    falling = sorted(precisions, key=lambda name: -precisions[name])
    return ShownRange(
        low,
        high,
        below=tuple(name for name in falling if precisions[name] < low),
        above=tuple(name for name in falling if precisions[name] > high),
    )
