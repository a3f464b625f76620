"""Settling a group by looking at all of it, on vector registers; the faster way up to some thousand boxes.

The first box without an owner is a key. One pass marks what it overlaps among all boxes behind it, without a branch;
the few marks are then found eight at a time, and each marked box without an owner gets the key. When half of the boxes
have an owner the others are moved together, so that the work is about the sum over keys of the boxes still without
one, which shrinks quickly where boxes crowd.
"""

import numpy as np

from postnms.ops.jit import exact


@exact
def settle_all(box, owner, offset, threshold):  # pragma: no cover: compiled
    """Fill ``owner`` from ``offset`` on for one group, by falling score.

    ``box``: lefts, tops, rights, bottoms and areas, which are overwritten.
    """
    lefts, tops, rights, bottoms, areas = box
    count = len(lefts)
    position = np.arange(offset, offset + count)
    owner[offset : offset + count] = -1
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


@exact
def _mark_overlaps(
    lefts, tops, rights, bottoms, areas, marks, threshold
):  # pragma: no cover: compiled
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
