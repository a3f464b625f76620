"""Triton kernels over pairs of overlapping boxes, the twins of ``../overlaps.py``.

:func:`assign_owners` is greedy NMS for what ``postnms.ops.cluster_nms`` does not know: other
measures of the overlap, a threshold for each key, and candidates that never suppress each other.
One program visits the keys of a group in turn, and each key claims its members in one pass over the
candidates behind it.

All results equal those of the kernels of the CPU to the last bit. The one exception is the power of
the relative distance of the centres, unless it is 1: it is computed in float64 and then rounded, so
its last bit may differ from that of a power in float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from postnms.ops.triton_boxes import corners, distance, ios, iou
from postnms.suppression.triton import blocks
from postnms.suppression.triton.blocks import launch

IOS = tl.constexpr(1)
DIOU = tl.constexpr(2)


def assign_owners(
    columns: Tensor,
    starts: Tensor,
    thresholds: Tensor,
    measure: int,
    beta: float,
    separate: Tensor | None,
) -> Tensor:
    """Cluster each group as greedy NMS does, and return the position (n,) int64 of each key.

    Args:
        columns: Edges of the boxes, see ``blocks.py``.
        starts: Starts of the groups, see ``blocks.py``.
        thresholds: (n,) float32, the overlap above which each candidate suppresses others as a key.
        measure: Position of the measure in ``MEASURES`` of ``../overlaps.py``.
        beta: Power of the relative distance of the centres.
        separate: (n,) int64, candidates with equal numbers never suppress each other. None: all may
            suppress each other.
    """
    count = len(thresholds)
    owner = torch.full((count,), -1, dtype=torch.int64, device=columns.device)
    # A tensor, because Triton rounds a Python float to float32. The power is in float64.
    power = torch.full((1,), beta, dtype=torch.float32, device=columns.device).double()
    numbers = owner if separate is None else separate.contiguous()
    given = (columns, starts, thresholds, numbers, power, owner, count)
    constants = {
        "measure": measure,
        "has_power": beta != 1,
        "is_separate": separate is not None,
        "block": blocks.BLOCK,
    }
    launch(_assign_owners, len(starts) - 1, *given, **constants)
    return owner


def overlapping(
    columns: Tensor, starts: Tensor, group: Tensor, firsts: Tensor, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pairs of the selected candidates with the candidates that they overlap.

    ``firsts`` (n,) bool selects the candidates that may be the first of a pair. A pair has an IoU
    over the threshold, or is a candidate with itself. Returns first (p,), second (p,) and IoU (p,),
    ordered by first and then by second. The host waits once, for the number of pairs.
    """
    count = len(firsts)
    selected = firsts.to(torch.int32)
    counts = torch.zeros_like(group)
    given = (columns, starts, group, selected, threshold, count)
    launch(_count_pairs, count, *given, counts, block=blocks.BLOCK)
    ends = counts.cumsum(0)
    size = int(ends[-1]) if count else 0
    first = group.new_empty(size)
    second = group.new_empty(size)
    overlap = columns.new_empty(size)
    found = (ends - counts, first, second, overlap)
    launch(_list_pairs, count, *given, *found, block=blocks.BLOCK)
    return first, second, overlap


@triton.jit(do_not_specialize=["n"])
def _assign_owners(
    columns,
    starts,
    thresholds,
    separate,
    beta,
    owner,
    n,
    measure: tl.constexpr,
    has_power: tl.constexpr,
    is_separate: tl.constexpr,
    block: tl.constexpr,
):
    """Fill ``owner`` for one group. All entries must be -1 on entry."""
    key = tl.load(starts + tl.program_id(0))
    end = tl.load(starts + tl.program_id(0) + 1)
    power = tl.load(beta)
    while key < end:
        box = corners(columns, n, key, key < end)
        threshold = tl.load(thresholds + key)
        own_number = tl.load(separate + key)
        # The first candidate behind the key that no key owns is the next key.
        following = end
        for begin in range(key, end, block):
            places = begin + tl.arange(0, block)
            free = tl.load(owner + places, mask=places < end, other=0) < 0
            others = corners(columns, n, places, places < end)
            takes = _overlap(box, others, power, measure, has_power) > threshold
            if is_separate:
                number = tl.load(separate + places, mask=places < end, other=0)
                takes &= number != own_number
            takes = free & (takes | (places == key))
            tl.debug_barrier()
            tl.store(owner + places, key, mask=takes)
            left = tl.where(free & ~takes, places, end)
            following = tl.minimum(following, tl.min(left))
        key = following
        tl.debug_barrier()


@triton.jit
def _overlap(first, second, power, measure: tl.constexpr, has_power: tl.constexpr):
    """Return the overlap of two boxes in a measure."""
    if measure == IOS:
        return ios(first, second)
    if measure == DIOU:
        apart = distance(first, second)
        if has_power:
            # x^p = exp(p * log(x)). There is no power in float32 of a known accuracy.
            positive = tl.where(apart > 0, apart, 1).to(tl.float64)
            raised = tl.exp(power * tl.log(positive)).to(tl.float32)
            apart = tl.where(apart > 0, raised, 0)
        return iou(first, second) - apart
    return iou(first, second)


@triton.jit(do_not_specialize=["n"])
def _count_pairs(columns, starts, group, selected, threshold, n, counts, block: tl.constexpr):
    """Write the number of pairs whose first is one candidate, if that is selected."""
    first = tl.program_id(0).to(tl.int64)
    if tl.load(selected + first) > 0:
        start = tl.load(starts + tl.load(group + first))
        end = tl.load(starts + tl.load(group + first) + 1)
        count = tl.zeros([], tl.int32)
        for begin in range(start, end, block):
            places = begin + tl.arange(0, block)
            is_pair, _ = _pairs(columns, first, places, end, threshold, n)
            count += tl.sum(is_pair.to(tl.int32))
        tl.store(counts + first, count)


@triton.jit(do_not_specialize=["n"])
def _list_pairs(
    columns,
    starts,
    group,
    selected,
    threshold,
    n,
    offsets,
    out_first,
    out_second,
    out_overlap,
    block: tl.constexpr,
):
    """Write the pairs whose first is one candidate, if that is selected, from its offset on."""
    first = tl.program_id(0).to(tl.int64)
    if tl.load(selected + first) > 0:
        start = tl.load(starts + tl.load(group + first))
        end = tl.load(starts + tl.load(group + first) + 1)
        offset = tl.load(offsets + first)
        for begin in range(start, end, block):
            places = begin + tl.arange(0, block)
            is_pair, overlap = _pairs(columns, first, places, end, threshold, n)
            number = is_pair.to(tl.int32)
            position = offset + tl.cumsum(number, axis=0) - 1
            tl.store(out_first + position, first, mask=is_pair)
            tl.store(out_second + position, places, mask=is_pair)
            tl.store(out_overlap + position, overlap, mask=is_pair)
            offset += tl.sum(number)


@triton.jit
def _pairs(columns, first, places, end, threshold, n):
    """Return which candidates are paired with the first one, and their IoU with it."""
    inside = places < end
    box = corners(columns, n, first, first < end)
    overlap = iou(box, corners(columns, n, places, inside))
    return inside & ((overlap > threshold) | (places == first)), overlap
