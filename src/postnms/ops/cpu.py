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
        # Slices of contiguous rows stay contiguous for the compiler; those of a matrix would not.
        _settle_group(lefts[start:end], tops[start:end], rights[start:end], bottoms[start:end],
                      areas[start:end], owner, start, threshold)  # fmt: skip
        start = end
    return owner


@_compiled
def _settle_group(lefts, tops, rights, bottoms, areas, owner, offset, threshold):  # pragma: no cover: compiled
    """Fill ``owner`` from ``offset`` on for one group; the columns are overwritten."""
    count = len(lefts)
    position = np.arange(offset, offset + count)
    words = np.zeros(count // 8 + 1, np.uint64)
    marks = words.view(np.uint8)
    head, free = 0, count
    while head < count:
        if owner[position[head]] >= 0:
            head += 1
            continue
        key = position[head]
        length = count - head
        _mark_overlaps(lefts[head:count], tops[head:count], rights[head:count], bottoms[head:count],
                       areas[head:count], marks, threshold)  # fmt: skip
        marks[0] = 1  # the key owns itself, with an area or without
        marks[length : (length + 7) // 8 * 8] = 0
        for word in range((length + 7) // 8):
            if words[word]:
                for i in range(word * 8, word * 8 + 8):
                    if marks[i] and owner[position[head + i]] < 0:
                        owner[position[head + i]] = key
                        free -= 1
        head += 1
        if 2 * free < count - head:
            kept = head
            for row in range(head, count):
                lefts[kept], tops[kept] = lefts[row], tops[row]
                rights[kept], bottoms[kept] = rights[row], bottoms[row]
                areas[kept], position[kept] = areas[row], position[row]
                kept += owner[position[row]] < 0
            count = kept


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
