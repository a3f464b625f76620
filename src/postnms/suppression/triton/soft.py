"""Triton kernel of Soft-NMS and variance voting, the twin of ``../soft.py``.

One program runs all rounds of a group. A round is one pass over the group, which lowers the scores
by the candidate that was selected last, and finds the next one. With votes it is two more passes.
So the time of a group is rounds * candidates / ``BLOCK``, and groups run next to each other.

``hard`` and ``linear`` equal the kernel of the CPU to the last bit. A Gaussian decay and a vote
differ from it by the rounding of exponentials, whose last bits Triton does not promise, and by the
order in which the sums of a vote are added.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from postnms.ops.triton_boxes import corners, iou
from postnms.suppression.triton import blocks
from postnms.suppression.triton.blocks import better, launch, no_best, place_of_best

HARD = tl.constexpr(0)
GAUSSIAN = tl.constexpr(2)


def soften(
    columns: Tensor,
    starts: Tensor,
    scores: Tensor,
    rows: Tensor,
    settings: tuple[int, float, float, float, float, float],
    log_variance: Tensor,
) -> tuple[Tensor, Tensor]:
    """Run all rounds of all groups, with variance voting if ``log_variance`` is given.

    Args:
        columns: Edges of the boxes, see ``blocks.py``.
        starts: Starts of the groups, see ``blocks.py``.
        scores: (n,) float32, scores before the first round.
        rows: (n,) int64, rows of the input. They decide ties.
        settings: ``SoftSettings``.
        log_variance: (4, n) float32, logarithms of the variances of the left, top, right and bottom
            edge, or (4, 0) for Soft-NMS without votes.

    Returns:
        (n,) float32, the score of each candidate when it was selected, -1 if it never was.
        (4, n) float32, the edges of each candidate when it was selected. Those of other candidates,
        and without votes those of all, are the given ones.
    """
    method, threshold, sigma, min_score, vote_sigma, vote_iou = settings
    # Candidates that have been selected or dropped have the current score -1.
    current = torch.where(scores >= min_score, scores, -1.0)
    final = torch.full_like(scores, -1)
    votes = log_variance.shape[1] > 0
    voted = columns.clone() if votes else columns
    given = (columns, starts, rows, current, final, log_variance, voted)
    numbers = (threshold, sigma, min_score, vote_sigma, vote_iou, len(scores))
    constants = {"method": method, "votes": votes, "block": blocks.BLOCK}
    launch(_soften, len(starts) - 1, *given, *numbers, **constants)
    return final, voted


@triton.jit(do_not_specialize=["n"])
def _soften(
    columns,
    starts,
    rows,
    current,
    final,
    log_variance,
    voted,
    threshold,
    sigma,
    min_score,
    vote_sigma,
    vote_iou,
    n,
    method: tl.constexpr,
    votes: tl.constexpr,
    block: tl.constexpr,
):
    """Run all rounds of one group. The first one lowers no score, as no candidate is selected."""
    start = tl.load(starts + tl.program_id(0))
    end = tl.load(starts + tl.program_id(0) + 1)
    chosen = tl.full([], -1, tl.int64)
    going = start < end
    while going:
        box = corners(columns, n, chosen, chosen >= 0)
        best = no_best(block)
        for begin in range(start, end, block):
            places = begin + tl.arange(0, block)
            score = tl.load(current + places, mask=places < end, other=-1)
            overlap = iou(box, corners(columns, n, places, places < end))
            lowered = _lowered(score, overlap, threshold, sigma, method)
            left = (score >= 0) & (places != chosen) & (lowered >= min_score)
            row = tl.load(rows + places, mask=places < end, other=0)
            best = better(left, lowered, row, places, best)
            tl.debug_barrier()
            tl.store(current + places, tl.where(left, lowered, -1), mask=places < end)
        chosen = place_of_best(best)
        going = chosen >= 0
        tl.debug_barrier()
        if going:
            tl.store(final + chosen, tl.max(best[0]))
            if votes:
                group = (start, end, chosen, n)
                _vote(columns, log_variance, voted, current, group, vote_sigma, vote_iou, block)


@triton.jit
def _lowered(score, overlap, threshold, sigma, method: tl.constexpr):
    """Return scores after the decay by a box that they overlap so."""
    if method == GAUSSIAN:
        return score * tl.exp(tl.div_rn(-(overlap * overlap), sigma))
    if method == HARD:
        return tl.where(overlap > threshold, -1, score)
    return tl.where(overlap > threshold, score * (1 - overlap), score)


@triton.jit
def _vote(columns, log_variance, voted, current, group, vote_sigma, vote_iou, block: tl.constexpr):
    """Fill ``voted[:, chosen]`` with the weighted means of the edges of the voters.

    ``group`` is the start and the end of the group, the selected candidate, and n.
    """
    start, end, chosen, n = group
    edges = tl.arange(0, 4).to(tl.int64) * n
    box = corners(columns, n, chosen, chosen >= 0)
    largest = tl.full([4], -float("inf"), tl.float32)
    for begin in range(start, end, block):
        places = begin + tl.arange(0, block)
        voters, away = _voters(columns, current, box, chosen, places, end, vote_iou, n)
        exponents = _exponents(log_variance, edges, places, voters, away, vote_sigma)
        largest = tl.maximum(largest, tl.max(exponents, axis=1))
    # The largest weight is scaled to 1, so no weight overflows and not all of them round to 0.
    weights = tl.zeros([4], tl.float32)
    sums = tl.zeros([4], tl.float32)
    for begin in range(start, end, block):
        places = begin + tl.arange(0, block)
        voters, away = _voters(columns, current, box, chosen, places, end, vote_iou, n)
        exponents = _exponents(log_variance, edges, places, voters, away, vote_sigma)
        weight = tl.exp(exponents - largest[:, None])
        given = tl.load(columns + edges[:, None] + places[None, :], mask=voters[None, :], other=0)
        weights += tl.sum(weight, axis=1)
        sums += tl.sum(weight * given, axis=1)
    tl.store(voted + edges + chosen, tl.div_rn(sums, weights))


@triton.jit
def _voters(columns, current, box, chosen, places, end, vote_iou, n):
    """Return which candidates vote for the selected one, and their 1 - IoU with it."""
    overlap = iou(box, corners(columns, n, places, places < end))
    itself = places == chosen
    living = tl.load(current + places, mask=places < end, other=-1) >= 0
    return living & (itself | (overlap > vote_iou)), tl.where(itself, 0, 1 - overlap)


@triton.jit
def _exponents(log_variance, edges, places, voters, away, vote_sigma):
    """Return the logarithms (4, block) of the weights of the voters, -inf for other candidates."""
    closeness = tl.div_rn(-(away * away), vote_sigma)
    log = tl.load(log_variance + edges[:, None] + places[None, :], mask=voters[None, :], other=0)
    return tl.where(voters[None, :], closeness[None, :] - log, -float("inf"))
