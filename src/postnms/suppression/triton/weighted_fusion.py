"""Triton kernel of Weighted Boxes Fusion, the twin of ``../weighted_fusion.py``.

One program visits the candidates of a group in turn. Each candidate looks at all fused boxes of the
group in one pass, and moves the one that it joins. The sums grow in the order of the ranking, so
the result equals that of the kernel of the CPU to the last bit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from postnms.ops.triton_boxes import corners, iou, ratio
from postnms.suppression.triton import blocks
from postnms.suppression.triton.blocks import NO_ROW, launch


def assign_fused(columns: Tensor, starts: Tensor, weights: Tensor, threshold: float) -> Tensor:
    """Return the position (n,) int64 of the first member of the fused box of each candidate.

    Args:
        columns: Edges of the boxes, see ``blocks.py``.
        starts: Starts of the groups, see ``blocks.py``.
        weights: (n,) float32, weights of the candidates in the mean, falling within each group.
        threshold: IoU with a fused box above which a candidate may join it.
    """
    count = len(weights)
    owner = torch.empty(count, dtype=torch.int64, device=columns.device)
    # The fused boxes of a group, by age, from the position on at which the group begins.
    fused = torch.empty_like(columns)
    sums = torch.empty_like(columns)
    totals = torch.empty_like(weights)
    first = torch.empty_like(owner)
    given = (columns, starts, weights, fused, sums, totals, first, owner, threshold, count)
    launch(_assign_fused, len(starts) - 1, *given, block=blocks.BLOCK)
    return owner


@triton.jit(do_not_specialize=["n"])
def _assign_fused(
    columns,
    starts,
    weights,
    fused,
    sums,
    totals,
    first,
    owner,
    threshold,
    n,
    block: tl.constexpr,
):
    """Fill ``owner`` for one group."""
    start = tl.load(starts + tl.program_id(0))
    end = tl.load(starts + tl.program_id(0) + 1)
    edges = tl.arange(0, 4).to(tl.int64) * n
    behind = start
    for place in range(start, end):
        best = _most_overlapped(columns, fused, place, start, behind, threshold, n, block)
        begins = best < 0
        best = tl.where(begins, behind, best)
        key = tl.load(first + best, mask=~begins, other=0)
        key = tl.where(begins, place, key)
        total = tl.load(totals + best, mask=~begins, other=0)
        sum_of = tl.load(sums + edges + best, mask=~begins, other=0)
        weight = tl.load(weights + place)
        total += weight
        sum_of += weight * tl.load(columns + edges + place)
        # A fused box whose weights sum to 0 stays where its first member is.
        own = tl.load(columns + edges + key)
        # Several threads hold these numbers. All must have read them before one writes them.
        tl.debug_barrier()
        tl.store(owner + place, key)
        tl.store(first + best, key)
        tl.store(totals + best, total)
        tl.store(sums + edges + best, sum_of)
        tl.store(fused + edges + best, tl.where(total > 0, ratio(sum_of, total), own))
        behind += begins.to(tl.int64)
        tl.debug_barrier()


@triton.jit
def _most_overlapped(columns, fused, place, start, behind, threshold, n, block: tl.constexpr):
    """Return the position of the fused box that a candidate overlaps most, -1 for none.

    The fused boxes lie from ``start`` to ``behind`` - 1. Of equal IoUs the older one is returned.
    """
    box = corners(columns, n, place, place < n)
    largest = tl.zeros([block], tl.float32) + threshold
    nearest = tl.full([block], NO_ROW, tl.int64)
    for begin in range(start, behind, block):
        places = begin + tl.arange(0, block)
        overlap = iou(box, corners(fused, n, places, places < behind))
        # A candidate without area overlaps nothing, so a lane behind the last box never wins.
        wins = overlap > largest
        largest = tl.where(wins, overlap, largest)
        nearest = tl.where(wins, places, nearest)
    most = tl.max(largest)
    oldest = tl.min(tl.where(largest == most, nearest, NO_ROW))
    return tl.where(most > threshold, oldest, -1)
