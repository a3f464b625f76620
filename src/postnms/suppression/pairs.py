"""Overlapping pairs of candidates, and sums, maxima and mean boxes over them.

n: candidates, p: pairs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from postnms.boxes import paired_iou
from postnms.suppression.protocol import Ranked


@dataclass(frozen=True)
class Pairs:
    """Overlapping candidates of one group, by rising ``first``, then rising ``second``."""

    first: Tensor
    """(p,) int64: places."""
    second: Tensor
    """(p,) int64: places."""
    overlap: Tensor
    """(p,) float32, in [0, 1]."""


def sum_by(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Sums (size, ...) of the values (p, ...) that have the same index (p,)."""
    # On a GPU this is deterministic, unlike index_add_; on the CPU only in double, where one thread adds.
    exact = values.double() if values.device.type == "cpu" else values
    out = exact.new_zeros(size, *values.shape[1:])
    return out.index_put_((index,), exact, accumulate=True).to(values.dtype)


def max_by(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Largest of the values (p,) that have the same index (p,) -> (size,); 0 where there is none."""
    return values.new_zeros(size).scatter_reduce(0, index, values, "amax", include_self=False)


def members_of(ranked: Ranked, owner: Tensor) -> Pairs:
    """Each candidate as the second of a pair with its key, in the order of the ranking."""
    itself = torch.arange(len(owner), device=owner.device)
    return Pairs(owner, itself, paired_iou(ranked.boxes[owner], ranked.boxes))


def mean_boxes(ranked: Ranked, pairs: Pairs, weights: Tensor) -> Tensor:
    """(n, 4): means over the second boxes of each first by the weights (p,) >= 0; the box itself without a weight."""
    total = sum_by(weights, pairs.first, len(ranked))
    sums = sum_by(weights[:, None] * ranked.boxes[pairs.second], pairs.first, len(ranked))
    return torch.where(total[:, None] > 0, sums / total[:, None], ranked.boxes)
