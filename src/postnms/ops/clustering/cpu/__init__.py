"""``cluster_nms`` compiled by numba, for CPU tensors: near linear time, equal to ``reference`` to the last box.

1. ``ranking`` sorts candidates by group, then falling score, then index, digit by digit in linear time.
2. Groups are settled one by one, each with the faster of two ways. ``scan``: each key marks all boxes behind it that
   it overlaps, without a branch, on vector registers: about (keys x boxes) / 8 steps. ``grid``: each box meets only
   the few keys that are near it and of like size, found in a hash table: about 0.2 to 0.5 microseconds a box.
3. ``ranking`` numbers the keys by score over all groups.

Large inputs of several groups are settled by as many threads as torch uses. No fast-math anywhere: every operation is
rounded as in ``reference``. Memory at its peak, the result included: about 100 bytes a box where one in five is a
key, 320 where all are.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from postnms.ops.clustering.cpu import ranking
from postnms.ops.clustering.cpu.grid import settle_near, suits
from postnms.ops.clustering.cpu.scan import settle_all
from postnms.ops.jit import exact

MOST_BOXES = 2**28
"""Rows are counted in int32, and so are places in the hash table, of which there are several a box."""
GRID_FROM = 4096
"""Boxes of a group from which the grid is used: where both take as long, whether each box is a key or each tenth
(``benchmarks/cluster_nms.py --crossover``)."""
THREADS_FROM = 2**15
"""Boxes of a call from which threads share its groups: below, to start them takes as long as they save."""


def cluster_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor] | None:
    """See :func:`postnms.ops.cluster_nms`. Values need not be checked: None if they are not as wanted there."""
    if len(boxes) >= MOST_BOXES:
        raise ValueError(f"boxes: expected fewer than {MOST_BOXES} rows, got {len(boxes)}")
    corners, points, members = _array(boxes), _array(scores), _array(groups)
    bits, threshold = points.view(f"i{points.itemsize}"), corners.dtype.type(iou_threshold)
    threads = torch.get_num_threads() if len(boxes) >= THREADS_FROM else 1
    if threads == 1:
        sound, keys, assignment = _cluster(corners, points, bits, members, threshold, GRID_FROM)
    else:
        sound, keys, assignment = _cluster_on(threads, corners, points, bits, members, threshold)
    return (torch.from_numpy(keys), torch.from_numpy(assignment)) if sound else None


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _cluster_on(threads, corners, scores, bits, groups, threshold):
    """As :func:`_cluster`, the groups shared by so many threads."""
    if not _is_sound(corners, scores, groups):
        return False, groups, groups
    order, starts, row_of_rank = ranking.rank(bits, groups)
    owner = np.empty(len(order), np.int32)

    def settle(part: tuple[int, int]) -> None:
        _settle(corners, order, starts, *part, threshold, GRID_FROM, owner)

    parts = _shares(starts, threads)
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(settle, parts))
    return True, *ranking.number(order, row_of_rank, owner)


def _shares(starts: np.ndarray, threads: int) -> list[tuple[int, int]]:
    """Ranges of groups for the threads, of about as many boxes each; a thread may be left without."""
    cuts = np.searchsorted(starts, np.linspace(0, starts[-1], threads + 1)).tolist()
    return [(first, last) for first, last in pairwise(cuts) if first < last]


@exact
def _settle(
    corners, order, starts, first, last, threshold, grid_from, owner
):  # pragma: no cover: compiled
    """Fill ``owner`` for the groups from ``first`` to ``last``: of each row of ``order``, the row of its key."""
    begin, end = starts[first], starts[last]
    columns = np.empty((5, end - begin), corners.dtype)
    lefts, tops, rights, bottoms, areas = columns[0], columns[1], columns[2], columns[3], columns[4]
    for row in range(begin, end):
        left, top, right, bottom = corners[order[row]]
        i = row - begin
        lefts[i], tops[i], rights[i], bottoms[i] = left, top, right, bottom
        areas[i] = (right - left) * (bottom - top)
    for group in range(first, last):
        a, b = starts[group] - begin, starts[group + 1] - begin
        # Slices of contiguous rows stay contiguous for the compiler; those of a matrix would not.
        box = lefts[a:b], tops[a:b], rights[a:b], bottoms[a:b], areas[a:b]
        if b - a >= grid_from and suits(box, threshold):
            settle_near(box, owner, starts[group], threshold)
        else:
            settle_all(box, owner, starts[group], threshold)


@exact
def _is_sound(corners, scores, groups):  # pragma: no cover: compiled
    """Are all values as ``cluster_nms`` wants them? Which one is not is for slower code to find."""
    sound = True
    for i in range(len(scores)):
        left, top, right, bottom = corners[i]
        # A comparison with NaN is false.
        sound &= (left > -np.inf) & (right >= left) & (right < np.inf)
        sound &= (top > -np.inf) & (bottom >= top) & (bottom < np.inf)
        sound &= (scores[i] > -np.inf) & (scores[i] < np.inf) & (groups[i] >= 0)
    return sound


@exact
def _cluster(corners, scores, bits, groups, threshold, grid_from):  # pragma: no cover: compiled
    """Are the values sound, and if so keys and assignment; one call, as each costs a few microseconds."""
    if not _is_sound(corners, scores, groups):
        return False, groups, groups
    order, starts, row_of_rank = ranking.rank(bits, groups)
    owner = np.empty(len(order), np.int32)
    _settle(corners, order, starts, 0, len(starts) - 1, threshold, grid_from, owner)
    keys, assignment = ranking.number(order, row_of_rank, owner)
    return True, keys, assignment
