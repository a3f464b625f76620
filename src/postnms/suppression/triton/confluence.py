"""Triton kernels of Confluence, the twin of ``../confluence.py``.

One program runs all rounds of a group. A round is two passes over the group: the first one selects
a candidate, and the second one lowers the scores of the candidates close to it. Selecting by
confluence needs sums over all pairs. A first launch with one program for each candidate fills them,
and a third pass corrects them for the candidates that a round removes. Each candidate is removed
once, so all rounds of a group together take candidates ** 2 / ``BLOCK`` steps for that.

``suppress`` and ``linear`` equal the kernel of the CPU to the last bit. A Gaussian decay differs
from it by the rounding of an exponential, whose last bits Triton does not promise.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from postnms.ops.triton_boxes import corners, ratio
from postnms.suppression.triton import blocks
from postnms.suppression.triton.blocks import NO_ROW, launch

SUPPRESS = tl.constexpr(0)
GAUSSIAN = tl.constexpr(2)


def select_by_confluence(
    columns: Tensor,
    starts: Tensor,
    group: Tensor,
    scores: Tensor,
    rows: Tensor,
    settings: tuple[float, int, float, float, bool],
    unit: int,
) -> Tensor:
    """Run all rounds of all groups, see :class:`postnms.suppression.confluence.Confluence`.

    Args:
        columns: Edges of the boxes, see ``blocks.py``.
        starts: Starts of the groups, see ``blocks.py``.
        group: Groups of the candidates, see ``blocks.py``.
        scores: (n,) float32, scores before the first round.
        rows: (n,) int64, rows of the input. They decide ties.
        settings: ``ConfluenceSettings``.
        unit: Proximities are summed as integers, in units of 1 / ``unit``.

    Returns:
        (n,) float32, the score of each candidate when it was selected, -1 if it never was.
    """
    threshold, decay, sigma, min_score, by_score = settings
    count = len(scores)
    # Candidates that have been selected or dropped have the current score -1.
    current = torch.where(scores >= min_score, scores, -1.0)
    final = torch.full_like(scores, -1)
    sums = torch.zeros_like(rows)
    gone = torch.empty_like(rows)
    constants = {"unit": unit, "block": blocks.BLOCK}
    if not by_score:
        given = (columns, starts, group, current, sums, threshold, count)
        launch(_add_terms, count, *given, **constants)
    given = (columns, starts, rows, current, sums, gone, final, threshold, sigma, min_score, count)
    constants = {"decay": decay, "by_score": by_score, **constants}
    launch(_select, len(starts) - 1, *given, **constants)
    return final


@triton.jit(do_not_specialize=["n"])
def _add_terms(
    columns, starts, group, current, sums, threshold, n, unit: tl.constexpr, block: tl.constexpr
):
    """Fill the sum of one candidate with its terms with all others that take part."""
    place = tl.program_id(0).to(tl.int64)
    start = tl.load(starts + tl.load(group + place))
    end = tl.load(starts + tl.load(group + place) + 1)
    box = corners(columns, n, place, place < end)
    total = tl.zeros([], tl.int64)
    for begin in range(start, end, block):
        places = begin + tl.arange(0, block)
        others = tl.load(current + places, mask=places < end, other=-1) >= 0
        terms = _terms(box, corners(columns, n, places, places < end), threshold, unit)
        total += tl.sum(tl.where(others & (places != place), terms, 0))
    tl.store(sums + place, total)


@triton.jit(do_not_specialize=["n"])
def _select(
    columns,
    starts,
    rows,
    current,
    sums,
    gone,
    final,
    threshold,
    sigma,
    min_score,
    n,
    decay: tl.constexpr,
    by_score: tl.constexpr,
    unit: tl.constexpr,
    block: tl.constexpr,
):
    """Run all rounds of one group."""
    start = tl.load(starts + tl.program_id(0))
    end = tl.load(starts + tl.program_id(0) + 1)
    left = tl.zeros([], tl.int32)
    for begin in range(start, end, block):
        places = begin + tl.arange(0, block)
        taking_part = tl.load(current + places, mask=places < end, other=-1) >= 0
        left += tl.sum(taking_part.to(tl.int32))
    while left > 0:
        chosen = _best(current, sums, rows, left, start, end, by_score, block)
        members = (start, end, chosen, n)
        limits = (threshold, sigma, min_score)
        taken, removed = _remove(columns, current, gone, members, limits, decay, block)
        tl.store(final + chosen, taken)
        left -= removed
        tl.debug_barrier()
        if not by_score:
            _correct(columns, sums, gone, removed, start, end, threshold, n, unit, block)
        tl.debug_barrier()


@triton.jit
def _remove(columns, current, gone, members, limits, decay: tl.constexpr, block: tl.constexpr):
    """Lower the scores close to the selected candidate, and remove it and the low ones.

    ``members`` is the start and the end of the group, the selected candidate, and n. Removed
    candidates are listed in ``gone`` from the start of the group on. Returns the score of the
    selected candidate, and the number of the removed ones.
    """
    start, end, chosen, n = members
    threshold, sigma, min_score = limits
    box = corners(columns, n, chosen, chosen < end)
    taken = tl.full([block], -1, tl.float32)
    removed = tl.zeros([], tl.int32)
    for begin in range(start, end, block):
        places = begin + tl.arange(0, block)
        score = tl.load(current + places, mask=places < end, other=-1)
        apart = _proximity(box, corners(columns, n, places, places < end))
        itself = places == chosen
        near = (score >= 0) & ((apart < threshold) | itself)
        # The selected candidate gets the best score as it is before the decay.
        taken = tl.where(near, tl.maximum(taken, score), taken)
        lowered = _lowered(score, apart, sigma, decay)
        dropped = near
        if decay != SUPPRESS:
            dropped = near & (itself | (lowered < min_score))
        number = dropped.to(tl.int32)
        position = start + removed + tl.cumsum(number, axis=0) - 1
        tl.debug_barrier()
        tl.store(gone + position, places, mask=dropped)
        tl.store(current + places, tl.where(dropped, -1, lowered), mask=near)
        removed += tl.sum(number)
    return tl.max(taken), removed


@triton.jit
def _best(current, sums, rows, left, start, end, by_score: tl.constexpr, block: tl.constexpr):
    """Return the best of the ``left`` candidates of a group, of equal ones that of the lower row.

    As on the CPU, the products are in float64, so that ties are the same.
    """
    top = tl.full([block], -float("inf"), tl.float64)
    low = tl.full([block], NO_ROW, tl.int64)
    best = tl.full([block], -1, tl.int64)
    others = tl.maximum(left - 1, 1).to(tl.float64)
    for begin in range(start, end, block):
        places = begin + tl.arange(0, block)
        score = tl.load(current + places, mask=places < end, other=-1)
        row = tl.load(rows + places, mask=places < end, other=0)
        merit = score.to(tl.float64)
        if not by_score:
            total = tl.load(sums + places, mask=places < end, other=0)
            merit = -(total.to(tl.float64) / others) * (1 - score).to(tl.float64)
        wins = (score >= 0) & ((merit > top) | ((merit == top) & (row < low)))
        top = tl.where(wins, merit, top)
        low = tl.where(wins, row, low)
        best = tl.where(wins, places, best)
    low = tl.where(top == tl.max(top), low, NO_ROW)
    return tl.max(tl.where(low == tl.min(low), best, -1))


@triton.jit
def _correct(
    columns, sums, gone, removed, start, end, threshold, n, unit: tl.constexpr, block: tl.constexpr
):
    """Subtract the terms of the candidates that a round has removed from the sums of the group.

    Sums of integers are corrected without a rounding error.
    """
    for begin in range(start, end, block):
        places = begin + tl.arange(0, block)
        boxes = corners(columns, n, places, places < end)
        total = tl.zeros([block], tl.int64)
        for number in range(removed):
            place = tl.load(gone + start + number)
            total += _terms(corners(columns, n, place, place < end), boxes, threshold, unit)
        before = tl.load(sums + places, mask=places < end, other=0)
        tl.debug_barrier()
        tl.store(sums + places, before - total, mask=places < end)


@triton.jit
def _terms(first, second, threshold, unit: tl.constexpr):
    """Return what two candidates add to the sums of each other, an integer up to ``unit``."""
    apart = _proximity(first, second)
    near = tl.where(apart < threshold, tl.minimum(apart, 1), 1)
    return (near.to(tl.float64) * unit).to(tl.int64)


@triton.jit
def _proximity(first, second):
    """Return the proximity of two boxes, in [0, 4]. An axis without an extent adds 0."""
    left, top, right, bottom = first
    other_left, other_top, other_right, other_bottom = second
    width = tl.maximum(right, other_right) - tl.minimum(left, other_left)
    height = tl.maximum(bottom, other_bottom) - tl.minimum(top, other_top)
    across = tl.abs(left - other_left) + tl.abs(right - other_right)
    down = tl.abs(top - other_top) + tl.abs(bottom - other_bottom)
    return ratio(across, width) + ratio(down, height)


@triton.jit
def _lowered(score, apart, sigma, decay: tl.constexpr):
    """Return scores after the decay by a box with this proximity."""
    if decay == GAUSSIAN:
        return score * tl.exp(tl.div_rn(-((1 - apart) * (1 - apart)), sigma))
    return score * tl.minimum(apart, 1)
