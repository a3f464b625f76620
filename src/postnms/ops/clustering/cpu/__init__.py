"""``cluster_nms`` compiled by numba. It runs on CPU tensors, in nearly linear time.

The result equals that of ``reference`` to the last box. There are three steps:

1. ``ranking`` sorts the candidates by group, then by falling score, then by index, digit by digit
   in linear time. A candidate's position in this order is its row.
2. The groups are settled one by one, each in the faster of two ways. In ``scan``, each key marks
   all later boxes that it overlaps, without a branch and on vector registers. This takes about
   (keys x boxes) / 8 steps. In ``grid``, each box is compared only with the few keys that are near
   it and similar in size, which a hash table holds. This takes about 0.2 to 0.5 microseconds a box.
3. ``ranking`` numbers the keys by score over all groups.

Large inputs with several groups are settled by as many threads as torch uses. There is no fast-math
anywhere: every operation is rounded as in ``reference``. The peak memory, the result included, is
about 100 bytes a box if one box in five is a key, and 320 bytes a box if all boxes are keys.

n: candidates, g: groups.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from postnms.ops.clustering.cpu import ranking
from postnms.ops.clustering.cpu.grid import fits_the_grid, settle_near
from postnms.ops.clustering.cpu.scan import settle_all
from postnms.ops.jit import exact
from postnms.ops.threads import Range, share

MOST_BOXES = 2**28
"""Limit of the number of boxes, exclusive.

int32 holds the numbers of rows, and those of the hash table, which has several rows a box.
"""
GRID_FROM = 8192
"""Smallest number of boxes of a group for which the grid is used.

About here both ways take the same time where each box is a key. Where one box in ten is a key, they
do so at about 12,000 boxes (``benchmarks/cluster_nms.py --crossover``).
"""
THREADS_FROM = 2**15
"""Smallest number of boxes of a call for which threads share the groups.

For fewer boxes, waking the threads takes as long as they save.
"""


def cluster_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float
) -> tuple[Tensor, Tensor] | None:
    """Return keys and assignment as :func:`postnms.ops.cluster_nms` defines them.

    Lengths and values need not be checked before. None is returned if one of them is not as defined
    there. Raises ValueError for :data:`MOST_BOXES` or more boxes.
    """
    count = scores.shape[0]
    if count >= MOST_BOXES:
        raise ValueError(f"boxes: expected fewer than {MOST_BOXES} rows, got {count}")
    corners = _array(boxes)
    points = _array(scores)
    members = np.zeros(count, np.int64) if groups is None else _array(groups)
    bits = points.view(np.int32 if points.itemsize == 4 else np.int64)
    # torch compares in the dtype of the boxes, numba in double. For a threshold such as 0.3 the two
    # disagree unless it is rounded.
    threshold = corners.dtype.type(iou_threshold)
    threads = torch.get_num_threads() if count >= THREADS_FROM else 1
    if threads == 1:
        sound, keys, assignment = _cluster(corners, points, bits, members, threshold, GRID_FROM)
    else:
        sound, keys, assignment = _cluster_on(threads, corners, points, bits, members, threshold)
    return (torch.from_numpy(keys), torch.from_numpy(assignment)) if sound else None


def _array(tensor: Tensor) -> np.ndarray:
    """Return a contiguous array of the tensor's values. It shares memory where it can."""
    return tensor.contiguous().numpy()


def _cluster_on(threads, corners, scores, bits, groups, threshold):
    """Do the work of :func:`_cluster`, with the groups shared by ``threads`` threads."""
    if not _is_sound(corners, scores, groups):
        return False, groups, groups
    order, starts, row_of_rank = ranking.rank_candidates(bits, groups)
    owner = np.empty(len(order), np.int32)

    def settle(part: Range) -> None:
        _settle(corners, order, starts, *part, threshold, GRID_FROM, owner)

    # Groups are independent. Each thread writes to the rows of its groups only, so the result does
    # not depend on the number of threads.
    share(settle, _shares(starts, threads))
    return True, *ranking.number_keys(order, row_of_rank, owner)


def _shares(starts: np.ndarray, threads: int) -> list[Range]:
    """Split the groups into at most ``threads`` ranges with about as many boxes each.

    ``starts`` (g + 1,): first row of each group, then n. Each range is half-open, in groups, and
    none is empty.
    """
    cuts = np.searchsorted(starts, np.linspace(0, starts[-1], threads + 1)).tolist()
    return [(first, last) for first, last in pairwise(cuts) if first < last]


@exact
def _settle(
    corners, order, starts, first, last, threshold, grid_from, owner
):  # pragma: no cover: compiled
    """Fill ``owner`` for the groups from ``first`` to ``last``, exclusive.

    The owner of a row is the row of its key. Rows are positions in ``order``.
    """
    begin = starts[first]
    end = starts[last]
    columns = np.empty((5, end - begin), corners.dtype)
    lefts, tops, rights, bottoms, areas = columns[0], columns[1], columns[2], columns[3], columns[4]
    # The boxes are copied in the order of the rows, so that later steps read memory in sequence.
    for row in range(begin, end):
        box = order[row]
        left, top, right, bottom = (
            corners[box, 0],
            corners[box, 1],
            corners[box, 2],
            corners[box, 3],
        )
        i = row - begin
        lefts[i], tops[i], rights[i], bottoms[i] = left, top, right, bottom
        areas[i] = (right - left) * (bottom - top)
    for group in range(first, last):
        a = starts[group] - begin
        b = starts[group + 1] - begin
        # The compiler knows that slices of contiguous rows are contiguous. Of slices of a matrix
        # it does not know it.
        sides = lefts[a:b], tops[a:b], rights[a:b], bottoms[a:b], areas[a:b]
        if b - a >= grid_from and fits_the_grid(sides, threshold):
            settle_near(sides, owner, starts[group], threshold)
        else:
            settle_all(sides, owner, starts[group], threshold)


@exact
def _is_sound(corners, scores, groups):  # pragma: no cover: compiled
    """Tell whether all lengths and values are as ``cluster_nms`` defines them.

    The loop has no early exit, because one without a branch is fast. Slower code names the value.
    """
    if corners.shape != (len(scores), 4) or len(groups) != len(scores):
        return False
    sound = True
    for i in range(len(scores)):
        left, top, right, bottom = corners[i, 0], corners[i, 1], corners[i, 2], corners[i, 3]
        # A comparison with NaN is false.
        sound &= (left > -np.inf) & (right >= left) & (right < np.inf)
        sound &= (top > -np.inf) & (bottom >= top) & (bottom < np.inf)
        sound &= (scores[i] > -np.inf) & (scores[i] < np.inf) & (groups[i] >= 0)
    return sound


@exact
def _cluster(corners, scores, bits, groups, threshold, grid_from):  # pragma: no cover: compiled
    """Return whether the values are sound, the keys and the assignment.

    If the values are not sound, the two arrays have no meaning. The steps are one compiled
    function, because each call from Python costs a few microseconds.
    """
    if not _is_sound(corners, scores, groups):
        return False, groups, groups
    order, starts, row_of_rank = ranking.rank_candidates(bits, groups)
    owner = np.empty(len(order), np.int32)
    _settle(corners, order, starts, 0, len(starts) - 1, threshold, grid_from, owner)
    keys, assignment = ranking.number_keys(order, row_of_rank, owner)
    return True, keys, assignment
