"""How the benchmarks here take time: sides take turns, and the median of each counts."""

import statistics
import time
from collections.abc import Callable, Mapping


def milliseconds(sides: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2) -> dict[str, float]:
    """Median milliseconds of each side's call, over ``rounds`` in which they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(warmup + rounds):
        for name, call in sides.items():
            begin = time.perf_counter()
            call()
            if number >= warmup:
                taken[name].append(1000 * (time.perf_counter() - begin))
    return {name: statistics.median(values) for name, values in taken.items()}
