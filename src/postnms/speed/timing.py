"""How the benchmarks take time: sides take turns, and the median of each counts."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

BUDGET = 20.0
"""Seconds that the calls of one side may take, warm-up included, before it is left with the rounds that it has."""


@dataclass(frozen=True)
class Timing:
    """Median milliseconds of a side's call over ``rounds`` calls."""

    milliseconds: float
    rounds: int


def measure(
    sides: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2, budget: float = BUDGET
) -> dict[str, Timing]:
    """Time each side's call over ``rounds`` in which they take turns, after ``warmup`` rounds that do not count.

    A side whose calls have taken ``budget`` seconds gets no further ones; the last one counts in any case.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(warmup + rounds):
        for name, call in sides.items():
            if sum(taken[name]) < budget:
                begin = time.perf_counter()
                call()
                taken[name].append(time.perf_counter() - begin)
    counted = {name: seconds[warmup:] or seconds[-1:] for name, seconds in taken.items()}
    return {
        name: Timing(1000 * statistics.median(seconds), len(seconds))
        for name, seconds in counted.items()
    }


def milliseconds(
    sides: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2
) -> dict[str, float]:
    """Median milliseconds of each side's call, over all ``rounds``, whatever they take."""
    return {
        name: timing.milliseconds
        for name, timing in measure(sides, rounds, warmup, math.inf).items()
    }


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch, and the kernels here, use ``count`` threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
