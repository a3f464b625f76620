"""``cluster_nms`` compiled by numba, for CPU tensors.

Candidates are ordered by group, then falling score, then index, and copied into one array a coordinate. Within a
group the first box without an owner is a key. One pass marks what it overlaps among all boxes behind it, without a
branch, so that it runs on vector registers; the few marks are then found eight at a time, and each marked box
without an owner gets the key. When half of the boxes have an owner the others are moved together, so that the work
is about the sum over keys of the boxes still without one, which shrinks quickly where boxes crowd.
No fast-math: every operation is rounded as in ``reference``, so keys and assignment are equal to the last box.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor


def cluster_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor]:
    """See :func:`postnms.ops.cluster_nms`."""
    points = scores.detach().numpy()
    order = np.lexsort((-points, groups.numpy()))
    columns = np.ascontiguousarray(boxes.detach().numpy()[order].T)
    threshold = columns.dtype.type(iou_threshold)
    owner = _owners(columns, groups.numpy()[order], threshold)
    owner = order[owner]  # of each sorted candidate, the key as a candidate index
    keys = order[owner == order]
    keys = keys[np.lexsort((keys, -points[keys]))]
    position = np.empty(len(order), np.int64)
    position[keys] = np.arange(len(keys))
    assignment = np.empty(len(order), np.int64)
    assignment[order] = position[owner]
    return torch.from_numpy(keys), torch.from_numpy(assignment)


_compiled = njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def _owners(columns, groups, threshold):  # pragma: no cover: compiled
    """Of each sorted candidate, the sorted position of its key. ``columns``: (4, n), overwritten."""
    n = len(groups)
    owner = np.full(n, -1, np.int64)
    lefts, tops, rights, bottoms = columns[0], columns[1], columns[2], columns[3]
    areas = (rights - lefts) * (bottoms - tops)
    start = 0
    while start < n:
        end = start + 1
        while end < n and groups[end] == groups[start]:
            end += 1
        _settle_group(
            lefts[start:end],
            tops[start:end],
            rights[start:end],
            bottoms[start:end],
            areas[start:end],
            owner,
            start,
            threshold,
        )  # fmt: skip: slices of contiguous rows stay contiguous for the compiler
        start = end
    return owner


@_compiled
def _settle_group(lefts, tops, rights, bottoms, areas, owner, offset, threshold):  # pragma: no cover: compiled
    """Fill ``owner`` from ``offset`` on for one group; the columns are overwritten."""
    count = len(lefts)
    position = np.arange(offset, offset + count)
    words = np.zeros(count // 8 + 1, np.uint64)
    marks = words.view(np.uint8)
    first, free = 0, count
    while first < count:
        key = position[first]
        owner[key] = key
        first += 1
        _mark_overlaps(
            lefts[first - 1 : count],
            tops[first - 1 : count],
            rights[first - 1 : count],
            bottoms[first - 1 : count],
            areas[first - 1 : count],
            marks,
            threshold,
        )
        length = count - first + 1
        marks[0] = 0
        marks[length : (length + 7) // 8 * 8] = 0
        free -= 1
        for word in range((length + 7) // 8):
            if words[word]:
                for i in range(word * 8, word * 8 + 8):
                    row = first - 1 + i
                    if marks[i] and owner[position[row]] < 0:
                        owner[position[row]] = key
                        free -= 1
        if 2 * free < count - first:
            kept = first
            for row in range(first, count):
                lefts[kept], tops[kept], rights[kept], bottoms[kept] = lefts[row], tops[row], rights[row], bottoms[row]
                areas[kept], position[kept] = areas[row], position[row]
                kept += owner[position[row]] < 0
            count = kept
        while first < count and owner[position[first]] >= 0:
            first += 1


@_compiled
def _mark_overlaps(lefts, tops, rights, bottoms, areas, marks, threshold):  # pragma: no cover: compiled
    """``marks[i]``: does box i overlap box 0 with an IoU over the threshold?"""
    zero = threshold - threshold
    left, top, right, bottom, area = lefts[0], tops[0], rights[0], bottoms[0], areas[0]
    for i in range(len(lefts)):
        x1 = lefts[i] if lefts[i] > left else left
        y1 = tops[i] if tops[i] > top else top
        x2 = rights[i] if rights[i] < right else right
        y2 = bottoms[i] if bottoms[i] < bottom else bottom
        width, height = x2 - x1, y2 - y1
        shared = (width if width > zero else zero) * (height if height > zero else zero)
        union = area + areas[i] - shared
        # Where neither has an area the quotient is NaN, and like an IoU of 0 it is not over the threshold.
        marks[i] = shared / union > threshold
