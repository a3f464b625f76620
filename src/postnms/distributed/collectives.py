"""Numbers that the processes of a run agree on, so that a batch gives the same losses however it is spread.

Each process has its share of a batch, and gradients are averaged over the processes. A loss that is divided by a
count of the whole batch therefore divides by the MEAN of the processes' counts: the average of the parts is then the
loss of the whole. With one process, or none of ``torch.distributed``, every function here is the identity.
"""

from collections.abc import Sequence

import torch
from torch import distributed


def world_size() -> int:
    """Processes of the run."""
    return (
        distributed.get_world_size()
        if distributed.is_available() and distributed.is_initialized()
        else 1
    )


def mean_over_processes(values: Sequence[float], device: torch.device) -> list[float]:
    """Mean of each value over the processes; all of them must call this together."""
    if (world := world_size()) == 1:
        return list(values)
    totals = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(totals)
    return (totals / world).tolist()


def max_over_processes(values: Sequence[int], device: torch.device) -> list[int]:
    """Largest of each value over the processes; all of them must call this together."""
    if world_size() == 1:
        return list(values)
    largest = torch.tensor(values, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return largest.tolist()


def divisor(count: float, device: torch.device) -> float:
    """What a sum over the rows of this process is divided by to give its part of the mean over all rows.

    That is the mean count, but at least one row over all processes: no rows give 0, not 0/0.
    """
    return max(mean_over_processes([count], device)[0], 1 / world_size())
