"""Numbers on which the processes of a run agree.

With them, a batch gives the same losses however it is divided among the processes. Each process
computes the losses of its share, and the gradients are averaged over the processes. A loss that is
normalised by a count over the whole batch must therefore divide by the MEAN of the counts of the
processes. The average of the shares then equals the loss of the whole batch.

If there is one process, or ``torch.distributed`` is not initialised, nothing is communicated and
the values of the process are returned.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """Return the number of processes of the run. It is 1 without ``torch.distributed``."""
    return (
        distributed.get_world_size()
        if distributed.is_available() and distributed.is_initialized()
        else 1
    )


def is_first_process() -> bool:
    """Return True in one process of the run. It is True without ``torch.distributed``."""
    return world_size() == 1 or distributed.get_rank() == 0


def mean_over_processes(values: Sequence[float], device: torch.device) -> list[float]:
    """Return the mean of each value over the processes.

    Every process must call this at the same point, with as many values. The values are added up in
    float64 on ``device``, the device of this process.
    """
    if (world := world_size()) == 1:
        return list(values)
    totals = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(totals)
    return (totals / world).tolist()


def max_over_processes(values: Sequence[int], device: torch.device) -> list[int]:
    """Return the largest of each value over the processes.

    Every process must call this at the same point, with as many values. The values are compared in
    int64 on ``device``, the device of this process.
    """
    if world_size() == 1:
        return list(values)
    largest = torch.tensor(values, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return largest.tolist()


def divisor(count: float, device: torch.device) -> float:
    """Return the number by which each process divides its sum over rows in place of a mean.

    The average of the results over the processes is then the mean over all rows. The number is the
    mean of ``count`` over the processes. It is at least 1 / number of processes, as if there were
    one row in all. A sum over no rows thus gives 0 and not 0 / 0. Every process must call this at
    the same point.

    Args:
        count: rows of this process.
        device: device of this process.

    Example:
        >>> import torch
        >>> from postnms.distributed.collectives import divisor
        >>> divisor(5.0, torch.device("cpu")), divisor(0.0, torch.device("cpu"))  # one process
        (5.0, 1.0)
    """
    return at_least_one_row(mean_over_processes([count], device)[0])


def at_least_one_row(mean: float) -> float:
    """Return the divisor of :func:`divisor` for a mean over the processes that is known."""
    return max(mean, 1 / world_size())


@dataclass(frozen=True)
class CountedLoss:
    """A loss that is still to be normalised by counts of all processes.

    To wait for the other processes costs more than to add up some numbers. So the counts of all
    losses of a step go into one collective: see :func:`settle`.
    """

    counts: tuple[float, ...]
    """Counts of this process."""
    finish: Callable[..., Tensor]
    """Computes the loss from the means of the counts over the processes, given one by one."""

    def times(self, weight: float) -> "CountedLoss":
        """Return the loss with a weight."""
        return CountedLoss(self.counts, lambda *means: weight * self.finish(*means))


def mean_over_rows(total: Tensor, rows: float) -> CountedLoss:
    """Return the loss whose sum over ``rows`` rows of this process is ``total``.

    Its average over the processes is the mean over all rows, as with :func:`divisor`.
    """
    return CountedLoss((rows,), lambda mean: total / at_least_one_row(mean))


def settle(losses: Mapping[str, Tensor | CountedLoss], device: torch.device) -> dict[str, Tensor]:
    """Return all losses as scalars, after one collective for all of their counts.

    Every process must call this at the same point, with the same losses. ``device`` is that of
    this process. Losses that are scalars already stay as they are.
    """
    counted = [loss for loss in losses.values() if isinstance(loss, CountedLoss)]
    means = iter(())
    if counted:
        means = iter(mean_over_processes([n for loss in counted for n in loss.counts], device))
    return {
        name: loss.finish(*(next(means) for _ in loss.counts))
        if isinstance(loss, CountedLoss)
        else loss
        for name, loss in losses.items()
    }
