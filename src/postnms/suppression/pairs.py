"""Pairs of overlapping candidates, with sums, maxima and mean boxes over them.

n: candidates, p: pairs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from postnms.boxes import paired_iou
from postnms.suppression.protocol import Ranked


@dataclass(frozen=True)
class Pairs:
    """Pairs of overlapping candidates. Both candidates of a pair are in the same group.

    A function that returns pairs states their order.
    """

    first: Tensor
    """(p,) int64: positions in the ranking."""
    second: Tensor
    """(p,) int64: positions in the ranking."""
    overlap: Tensor
    """(p,) float32, in [0, 1]: IoU of the two boxes."""


def sum_by(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Return the sums (size, ...) of the values (p, ...) that have the same index (p,).

    An index without a value has the sum 0. The result is deterministic on every device.
    """
    # `index_put_` is deterministic on a GPU, unlike `index_add_`. On the CPU it is deterministic
    # for float64 only, because there a single thread adds.
    exact = values.double() if values.device.type == "cpu" else values
    out = exact.new_zeros(size, *values.shape[1:])
    return out.index_put_((index,), exact, accumulate=True).to(values.dtype)


def max_by(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Return the largest (size,) of the values (p,) that have the same index (p,).

    An index without a value has the maximum 0.
    """
    return values.new_zeros(size).scatter_reduce(0, index, values, "amax", include_self=False)


def members_of(ranked: Ranked, owner: Tensor) -> Pairs:
    """Return the n pairs of a key and one of its members, by rising position of the member.

    ``owner`` (n,) int64 is the position of the key that owns each candidate. A key is also a member
    of its own cluster.
    """
    itself = torch.arange(len(owner), device=owner.device)
    return Pairs(owner, itself, paired_iou(ranked.boxes[owner], ranked.boxes))


def mean_boxes(ranked: Ranked, pairs: Pairs, weights: Tensor) -> Tensor:
    """Return for each candidate (n, 4) the weighted mean of the boxes that are paired with it.

    The mean for candidate i is over the second boxes of all pairs whose first is i. ``weights``
    (p,) are at least 0. A candidate whose weights sum to 0 keeps its own box.
    """
    total = sum_by(weights, pairs.first, len(ranked))
    sums = sum_by(weights[:, None] * ranked.boxes[pairs.second], pairs.first, len(ranked))
    return torch.where(total[:, None] > 0, sums / total[:, None], ranked.boxes)
