"""The way that benchmarks take time: calls alternate, and the median of each counts.

Alternating calls share slow and fast phases of the machine, so that their ratio is fair.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

BUDGET = 20.0
"""Seconds, warm-up included, after which a call is not repeated again."""


@dataclass(frozen=True)
class Timing:
    """Result of timing one call several times."""

    milliseconds: float
    """Median over the rounds."""
    rounds: int
    """Number of calls that count, which the budget may have cut."""


def measure(
    sides: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2, budget: float = BUDGET
) -> dict[str, Timing]:
    """Time several calls, which take turns in every round.

    Args:
        sides: the calls to compare, by name.
        rounds: how often each call is timed, at least 1.
        warmup: rounds before those, which do not count.
        budget: seconds over 0. A call that has taken as long, warm-up included, is not repeated
            again. If it has taken as long within the warm-up, its last repetition counts.

    Returns:
        The timing of each call, by name and in the order of ``sides``.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(warmup + rounds):
        for name, call in sides.items():
            if sum(taken[name]) < budget:
                begin = time.perf_counter()
                call()
                taken[name].append(time.perf_counter() - begin)
    # A call that used up its budget within the warm-up has no other time than the last of those.
    counted = {name: seconds[warmup:] or seconds[-1:] for name, seconds in taken.items()}
    return {
        name: Timing(1000 * statistics.median(seconds), len(seconds))
        for name, seconds in counted.items()
    }


def milliseconds(
    sides: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2
) -> dict[str, float]:
    """Return the median milliseconds of each call over all rounds, without a budget.

    The arguments are those of :func:`measure`.
    """
    return {
        name: timing.milliseconds
        for name, timing in measure(sides, rounds, warmup, math.inf).items()
    }


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of CPU threads of torch, and of the kernels of this library, within a block.

    The former number is restored after the block, also if it fails.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
