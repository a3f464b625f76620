"""What keeps the host from waiting for a GPU.

A GPU works through a queue that the host fills. The host waits, and the queue runs empty, where it
reads a value of a tensor, where the length of a result depends on values, and where it copies
memory that is not page-locked.

n: rows.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def constant(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers of the host, or nested lists of them, as a tensor on the device.

    The host does not wait for a CUDA device.
    """
    if isinstance(values, Tensor):  # In a program sizes are symbols, and so they are tensors.
        return values.to(device, dtype)
    made = torch.tensor(values, dtype=dtype, device="cpu")
    if device.type != "cuda":
        return made.to(device)
    # torch keeps the page-locked memory until the copy is done.
    return made.pin_memory().to(device, non_blocking=True)


def rows_of(mask: Tensor, count: int) -> Tensor:
    """Return the rows in which ``mask`` (n,) is true, int64, rising: there are ``count`` of them.

    With the count known, the host does not wait. A wrong count gives a wrong result.
    """
    return torch.nonzero_static(mask, size=count).squeeze(1)


def number_of_each(index: Tensor, size: int) -> Tensor:
    """Return how often each of the numbers 0 to ``size`` - 1 is in ``index``: (size,) int64.

    ``index`` is (n,) int64. ``torch.bincount`` makes the host wait for a GPU.
    """
    counts = torch.zeros(size, dtype=torch.int64, device=index.device)
    return counts.scatter_add_(0, index, torch.ones_like(index))


def repeated(counts: Sequence[int], device: torch.device) -> Tensor:
    """Return the number 0 ``counts[0]`` times, then 1 ``counts[1]`` times, and so on: int64."""
    numbers = torch.arange(len(counts), device=device)
    repeats = constant(counts, torch.int64, device)
    return numbers.repeat_interleave(repeats, output_size=sum(counts))
