"""Settling of a group by comparing each key with all later boxes, on vector registers.

This is the faster way for groups of up to a few thousand boxes, and the only one for boxes that do
not fit the grid.

The first box without an owner is a key. One pass marks which later boxes it overlaps, without a
branch. The marks are few. They are read eight at a time, and each marked box without an owner gets
the key. As soon as half of the remaining boxes have an owner, the others are moved together. The
work is therefore about the sum, over the keys, of the boxes that still have no owner. That number
shrinks quickly where boxes crowd.
"""

import numpy as np

from postnms.ops.jit import exact, exact_inlined


@exact
def settle_all(box, owner, offset, threshold):  # pragma: no cover: compiled
    """Fill ``owner`` for one group, whose first row is ``offset``.

    ``box``: the columns lefts, tops, rights, bottoms and areas, by falling score. They are
    overwritten. ``threshold``: in their dtype.
    """
    lefts, tops, rights, bottoms, areas = box
    count = len(lefts)
    position = np.arange(offset, offset + count)
    owner[offset : offset + count] = -1
    # Eight marks of a byte each are one word, so that one test skips eight boxes without a mark.
    words = np.zeros(count // 8 + 1, np.uint64)
    marks = words.view(np.uint8)
    head = 0
    free = count
    while head < count:
        if owner[position[head]] >= 0:
            head += 1
            continue
        key = position[head]
        length = count - head
        _mark_overlaps(lefts[head:count], tops[head:count], rights[head:count], bottoms[head:count],
                       areas[head:count], marks, threshold)  # fmt: skip
        # The key owns itself, also if it has no area. The rest of the last word is cleared.
        marks[0] = 1
        marks[length : (length + 7) // 8 * 8] = 0
        for word in range((length + 7) // 8):
            if words[word]:
                for i in range(word * 8, word * 8 + 8):
                    if marks[i] and owner[position[head + i]] < 0:
                        owner[position[head + i]] = key
                        free -= 1
        head += 1
        if 2 * free < count - head:
            # Drop the boxes that have an owner, so that later passes skip them.
            kept = head
            for row in range(head, count):
                lefts[kept], tops[kept] = lefts[row], tops[row]
                rights[kept], bottoms[kept] = rights[row], bottoms[row]
                areas[kept], position[kept] = areas[row], position[row]
                kept += owner[position[row]] < 0
            count = kept


@exact_inlined
def _mark_overlaps(
    lefts, tops, rights, bottoms, areas, marks, threshold
):  # pragma: no cover: compiled
    """Fill ``marks[i]``: whether the IoU of box i with box 0 is over ``threshold``."""
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
        # If neither box has an area, the quotient is NaN, and a comparison with NaN is false.
        marks[i] = shared / union > threshold
