"""Learning rate by iteration: linear warm-up, then steps (the usual schedule of detectors)."""

from collections.abc import Sequence


def learning_rate(
    iteration: int, base: float, warmup: int, warmup_factor: float, steps: Sequence[int], gamma: float
) -> float:
    """Rate of the given iteration, counted from 0. ``steps``: iterations at which it is multiplied by gamma."""
    share = min(iteration / warmup, 1.0) if warmup else 1.0
    return base * (warmup_factor * (1 - share) + share) * gamma ** sum(iteration >= step for step in steps)
