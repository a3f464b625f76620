"""Triton kernel of one round of CP-Cluster, the twin of ``../cp_cluster.py``.

One program collects the messages to one candidate, in one pass over its group. The results equal
those of the kernel of the CPU to the last bit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from postnms.ops.triton_boxes import corners, iou
from postnms.suppression.triton import blocks
from postnms.suppression.triton.blocks import NO_ROW, better, launch, no_best, place_of_best


def propagate(
    columns: Tensor,
    starts: Tensor,
    group: Tensor,
    scores: Tensor,
    rows: Tensor,
    settings: tuple[float, float, float, bool, bool],
    silenced: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one round of all groups, see :class:`postnms.suppression.cp_cluster.CPCluster`.

    Args:
        columns: Edges of the boxes, see ``blocks.py``.
        starts: Starts of the groups, see ``blocks.py``.
        group: Groups of the candidates, see ``blocks.py``.
        scores: (n,) float32, scores before the round.
        rows: (n,) int64, rows of the input. They decide which of two equal scores is stronger.
        settings: ``RoundSettings``.
        silenced: (n,) int64, the position of the candidate that may not lower each score, -1 for
            none.

    Returns:
        The edges (4, n) and scores (n,) float32 after the round, and the position (n,) int64 of the
        candidate that lowered each score, -1 for none.
    """
    threshold, friend_threshold, min_score, closest, move_boxes = settings
    moved = columns.clone()
    changed = scores.clone()
    suppressor = torch.full_like(rows, -1)
    count = len(scores)
    given = (columns, starts, group, scores, rows, silenced, moved, changed, suppressor)
    numbers = (threshold, friend_threshold, min_score, count)
    constants = {"closest": closest, "move_boxes": move_boxes, "block": blocks.BLOCK}
    launch(_propagate, count, *given, *numbers, **constants)
    return moved, changed, suppressor


@triton.jit(do_not_specialize=["n"])
def _propagate(
    columns,
    starts,
    group,
    scores,
    rows,
    silenced,
    moved,
    changed,
    suppressor,
    threshold,
    friend_threshold,
    min_score,
    n,
    closest: tl.constexpr,
    move_boxes: tl.constexpr,
    block: tl.constexpr,
):
    """Run the round for one candidate, if its score takes part."""
    place = tl.program_id(0).to(tl.int64)
    score = tl.load(scores + place)
    if score >= min_score:
        start = tl.load(starts + tl.load(group + place))
        end = tl.load(starts + tl.load(group + place) + 1)
        silent = tl.load(silenced + place)
        near = (place, start, end, silent, n)
        limits = (threshold, friend_threshold, min_score)
        friends, friend, lowers = _messages(columns, scores, rows, near, limits, closest, block)
        weight = tl.load(scores + friend, mask=friend >= 0, other=0)
        raised = score + (1 - score) * tl.div_rn(friends, friends + 1) * weight
        box = corners(columns, n, place, place < n)
        loss = iou(box, corners(columns, n, lowers, lowers >= 0))
        tl.store(changed + place, raised - raised * loss)
        tl.store(suppressor + place, lowers)
        if move_boxes:
            edges = tl.arange(0, 4).to(tl.int64) * n
            own = tl.load(columns + edges + place)
            other = tl.load(columns + edges + friend, mask=friend >= 0, other=0)
            total = raised + weight
            drawn = tl.div_rn(own * raised + other * weight, tl.where(total > 0, total, 1))
            tl.store(moved + edges + place, drawn, mask=(friend >= 0) & (total > 0))


@triton.jit
def _messages(columns, scores, rows, near, limits, closest: tl.constexpr, block: tl.constexpr):
    """Return what one candidate is told by the others of its group.

    That is the number of its friends, the strongest of them, and the candidate that lowers its
    score, -1 for none. ``near`` is the candidate, the start and the end of its group, the candidate
    that may not lower its score, and n.
    """
    place, start, end, silent, n = near
    threshold, friend_threshold, min_score = limits
    score = tl.load(scores + place)
    row = tl.load(rows + place)
    box = corners(columns, n, place, place < n)
    friends = tl.zeros([block], tl.int32)
    friend = no_best(block)
    lowering = no_best(block)
    largest = tl.zeros([block], tl.float32)
    for begin in range(start, end, block):
        places = begin + tl.arange(0, block)
        others = tl.load(scores + places, mask=places < end, other=-1)
        other_rows = tl.load(rows + places, mask=places < end, other=0)
        overlap = iou(box, corners(columns, n, places, places < end))
        met = (places < end) & (places != place) & (others >= min_score)
        # A weaker candidate can only raise the score, a stronger one only lower it.
        is_stronger = (others > score) | ((others == score) & (other_rows < row))
        raises = met & ~is_stronger & (overlap > friend_threshold)
        friends += raises.to(tl.int32)
        friend = better(raises, others, other_rows, places, friend)
        lowers = met & is_stronger & (overlap > threshold) & (places != silent)
        if closest:
            # Strength decides only between equal IoUs, so a larger one begins anew.
            lowering = _forget(lowers & (overlap > largest), lowering)
            lowers &= overlap >= largest
            largest = tl.where(lowers, overlap, largest)
        lowering = better(lowers, others, other_rows, places, lowering)
    if closest:
        lowering = _forget(largest < tl.max(largest), lowering)
    return tl.sum(friends).to(tl.float32), place_of_best(friend), place_of_best(lowering)


@triton.jit
def _forget(forgets, best):
    """Return ``best`` with no candidate in the lanes where ``forgets`` is true."""
    value, row, place = best
    return (
        tl.where(forgets, -float("inf"), value),
        tl.where(forgets, NO_ROW, row),
        tl.where(forgets, -1, place),
    )
