"""Settling a large group by looking only at keys that are near and of like size: about linear in its boxes.

If two boxes have IoU > t, what they share is more than t of each, so that neither side is longer than 1/t times the
other's, and the centres are closer than (1 - t) of the longer side, along x and along y. Boxes are therefore sorted
into cells by (level of width, level of height, place of the centre): a level spans a factor of 4 in length, and the
cells of a level are about (1 - t) of its longest side wide. When a box becomes a key, it is noted in every cell in
which a box that it may suppress could lie (``_places``: about 14); each box in turn, by falling score, looks at the
keys of its own cell alone and belongs to the first of them that overlaps it, or else becomes a key. Cells are rows of
a hash table; two that share a row only cost tests, since IoU decides. A row holds three keys and the way to an older
row of the cell. Rows and keys that come next are asked for ahead of time, as they are spread over memory.
Sides, centres and distances are in float64, with a margin over the rounding of IoU in float32.
"""

from collections import namedtuple

import numpy as np

from postnms.ops.jit import exact, exact_inlined, prefetch

LEAST_THRESHOLD = 0.01
"""Below it a key has too many cells to be noted in, and at 0 there is no bound."""
MARGIN = 1e-5
"""Relative: more than IoU in float32 is off by rounding."""
FINEST = 2.0**-30
"""Least side over its distance from the origin along the same axis with which places are exact enough; float32 never
has less."""
SHORTEST, LONGEST = 1e-30, 1e30
"""Sides that float32 holds with room to spare."""
LEVEL_BITS = 24
"""Lengths are of one level if their bits as float32 agree but for so many: 23 would be a factor of 2 a level."""
AHEAD = 10
"""Boxes between the one that is settled and the one whose keys are asked for."""
ROW = 4
"""Numbers of a row: three keys, counted from 1, and the older row."""
SLACK = 1e-3
"""Of a cell: more than a place is off by rounding."""
KEY = 8
"""Numbers of a key, of which five are used: in float32 two keys fill a cache line, and none lies across two."""
NONE = np.int32(2**31 - 1)

Cells = namedtuple("Cells", "least per_pixel threshold unused_bits")
"""``least``: shortest side of each level; ``per_pixel``: cells a pixel of each; ``threshold``: with the margin;
``unused_bits``: of a hash."""


@exact
def suits(box, threshold):  # pragma: no cover: compiled
    """May a group of boxes be settled by :func:`settle_near`? Else :func:`settle_all` is exact as well."""
    lefts, tops, rights, bottoms, areas = box
    if not LEAST_THRESHOLD <= threshold < 1:
        return False
    for i in range(len(areas)):
        if areas[i] > 0 and not (
            _is_placed(lefts[i], rights[i]) and _is_placed(tops[i], bottoms[i])
        ):
            return False
    return True


@exact_inlined
def _is_placed(low, high):  # pragma: no cover: compiled
    side = np.float64(high - low)
    return max(SHORTEST, FINEST * max(abs(low), abs(high))) <= side <= LONGEST


@exact
def settle_near(box, owner, offset, threshold):  # pragma: no cover: compiled
    """Fill ``owner`` from ``offset`` on for one group, by falling score.

    ``box``: lefts, tops, rights, bottoms and areas.
    """
    lefts, tops, rights, bottoms, areas = box
    count = len(lefts)
    cells, rows = _new_cells(count, np.float64(threshold))
    older, used = np.zeros((count // 4 + 8, ROW), np.int32), 1
    keys, key_rows, found = np.empty((count, KEY), lefts.dtype), np.empty(count, np.int32), 0
    places = np.empty(64, np.int64)
    own, levels = _own_places(box, cells)
    for i in range(count):
        _ask_ahead(own, i, rows, older, keys)
        row = offset + i
        owner[row] = row
        if not 0 < areas[i] < np.inf:
            continue  # its IoU with any box is 0
        key = _first_owner(
            rows, older, own[i], keys, lefts[i], tops[i], rights[i], bottoms[i], areas[i], threshold
        )
        if key < NONE:
            owner[row] = key_rows[key]
            continue
        keys[found, 0], keys[found, 1], keys[found, 2] = lefts[i], tops[i], rights[i]
        keys[found, 3], keys[found, 4] = bottoms[i], areas[i]
        key_rows[found] = row
        found += 1
        places, number = _places(
            lefts[i], tops[i], rights[i], bottoms[i], levels[0, i], levels[1, i], cells, places
        )
        for at in range(number):
            prefetch(rows, places[at] * ROW)  # pyright: ignore[reportCallIssue]
        for at in range(number):
            if used == len(older):
                grown = np.zeros((2 * used, ROW), np.int32)
                grown[:used] = older
                older = grown
            used = _note(rows, older, used, places[at], found)


@exact
def _new_cells(count, threshold):  # pragma: no cover: compiled
    """Levels of all positive float32, and an empty hash table of at least two rows a box."""
    bits = np.arange((1 << (31 - LEVEL_BITS)) + 1) << LEVEL_BITS
    least = np.minimum(bits, 0x7F800000).astype(np.int32).view(np.float32).astype(np.float64)
    safe = threshold * (1 - MARGIN)
    # The lower the threshold the farther a key reaches: larger cells keep their number down.
    side = max(1.0, 0.2 / safe) * max(1 - safe, 1 / 64)
    table_bits = 3
    while (1 << table_bits) < 2 * count:
        table_bits += 1
    cells = Cells(least, 1 / (side * least[1:]), safe, np.uint64(64 - table_bits))
    return cells, np.zeros((1 << table_bits, ROW), np.int32)


@exact
def _own_places(box, cells):  # pragma: no cover: compiled
    """(count,) int32: the row of the cell that each box lies in; (2, count) int32: its levels."""
    lefts, tops, rights, bottoms, areas = box
    own = np.empty(len(areas), np.int32)
    sides = np.empty((2, len(areas)), np.float32)
    for i in range(len(areas)):
        sides[0, i], sides[1, i] = rights[i] - lefts[i], bottoms[i] - tops[i]
    levels = sides.view(np.int32) >> LEVEL_BITS
    for i in range(len(areas)):
        wide, high = levels[0, i], levels[1, i]
        column = _cell(_middle(lefts[i], rights[i]) * cells.per_pixel[wide])
        line = _cell(_middle(tops[i], bottoms[i]) * cells.per_pixel[high])
        own[i] = _place(column, line, wide, high, cells.unused_bits)
    return own, levels


@exact
def _places(left, top, right, bottom, wide, high, cells, places):  # pragma: no cover: compiled
    """Rows of all cells that a box may lie in which overlaps the given one enough, and how many they are.

    ``places`` is filled, or another array if it is too short.
    """
    x, y = _middle(left, right), _middle(top, bottom)
    width, height = np.float64(np.float32(right - left)), np.float64(np.float32(bottom - top))
    number = 0
    narrowest, widest = _like(width, wide, cells)
    lowest, highest = _like(height, high, cells)
    for wide in range(narrowest, widest + 1):
        for high in range(lowest, highest + 1):
            reach_x, reach_y = _reaches(width, height, cells, wide, high)
            if reach_x < 0 or reach_y < 0:
                continue
            per_x, per_y = cells.per_pixel[wide], cells.per_pixel[high]
            first, last = _cell((x - reach_x) * per_x - SLACK), _cell((x + reach_x) * per_x + SLACK)
            upper, lower = (
                _cell((y - reach_y) * per_y - SLACK),
                _cell((y + reach_y) * per_y + SLACK),
            )
            needed = number + (last - first + 1) * (lower - upper + 1)
            if needed > len(places):
                longer = np.empty(2 * needed, np.int64)
                longer[:number] = places[:number]
                places = longer
            for column in range(first, last + 1):
                for line in range(upper, lower + 1):
                    places[number] = _place(column, line, wide, high, cells.unused_bits)
                    number += 1
    return places, number


@exact_inlined
def _like(side, level, cells):  # pragma: no cover: compiled
    """First and last level of sides that are within a factor of the threshold of one of the given level."""
    first, last = level, level
    while cells.least[first] > side * cells.threshold:
        first -= 1
    while cells.least[last + 1] <= side / cells.threshold:
        last += 1
    return first, last


@exact_inlined
def _reaches(width, height, cells, wide, high):  # pragma: no cover: compiled
    """Farthest along x and along y that the centre of a box of the given levels can be; negative: none can be.

    What the two share is over t of the area of either. If the other is lower by a factor f at least, it is over
    t / f of the width of this one, and if it is higher by f, over t / f of the other's width; x and y alike.
    """
    least, t = cells.least, cells.threshold
    narrow_by, wide_by = (
        min(1.0, least[wide + 1] / width),
        min(1.0, width / max(least[wide], 1e-300)),
    )
    low_by, high_by = (
        min(1.0, least[high + 1] / height),
        min(1.0, height / max(least[high], 1e-300)),
    )
    across = _reach(width, least[wide], least[wide + 1], t / low_by, t / high_by)
    down = _reach(height, least[high], least[high + 1], t / narrow_by, t / wide_by)
    return across, down


@exact_inlined
def _reach(side, least, most, share, share_of_other):  # pragma: no cover: compiled
    """Largest distance of the centres of two sides.

    They have over ``share`` of this one and ``share_of_other`` of the other in common; the other is between ``least``
    and ``most`` long. Negative if that cannot be.
    """
    least, most = max(least, share * side), min(most, side / share_of_other)
    if least > most:
        return -1.0
    turn = min(max(share * side / share_of_other, least), most)
    at_turn = (side + turn) / 2 - max(share * side, share_of_other * turn)
    return max(at_turn, (side + most) / 2 - max(share * side, share_of_other * most))


@exact_inlined
def _first_owner(
    rows, older, place, keys, left, top, right, bottom, area, threshold
):  # pragma: no cover: compiled
    """The first key noted at ``place`` that overlaps the box, or NONE."""
    first = _first_of_row(rows, place, keys, left, top, right, bottom, area, threshold)
    row = rows[place, ROW - 1]
    while row:
        first = min(
            first, _first_of_row(older, row, keys, left, top, right, bottom, area, threshold)
        )
        row = older[row, ROW - 1]
    return first


@exact_inlined
def _first_of_row(
    table, row, keys, left, top, right, bottom, area, threshold
):  # pragma: no cover: compiled
    first, zero = NONE, threshold - threshold
    for slot in range(ROW - 1):
        key = table[row, slot] - np.int32(1)
        if key < 0:
            break
        x1 = keys[key, 0] if keys[key, 0] > left else left
        y1 = keys[key, 1] if keys[key, 1] > top else top
        x2 = keys[key, 2] if keys[key, 2] < right else right
        y2 = keys[key, 3] if keys[key, 3] < bottom else bottom
        width, height = x2 - x1, y2 - y1
        if width > zero and height > zero:
            shared = width * height
            if shared / (keys[key, 4] + area - shared) > threshold:
                first = min(first, key)
    return first


@exact_inlined
def _note(rows, older, used, place, key):  # pragma: no cover: compiled
    """Write a key, counted from 1, at a place; a full row moves to ``older``, of which so many are used."""
    for slot in range(ROW - 1):
        if rows[place, slot] == 0:
            rows[place, slot] = key
            return used
    older[used] = rows[place]
    rows[place, 0], rows[place, 1], rows[place, 2], rows[place, 3] = key, 0, 0, used
    return used + 1


@exact_inlined
def _ask_ahead(own, i, rows, older, keys):  # pragma: no cover: compiled
    """Ask for the row of a box far ahead, and for what the row of a nearer one leads to."""
    if i + 2 * AHEAD < len(own):
        prefetch(rows, np.int64(own[i + 2 * AHEAD]) * ROW)  # pyright: ignore[reportCallIssue]
        near = own[i + AHEAD]
        for slot in range(ROW - 1):
            prefetch(keys, np.int64(max(rows[near, slot] - 1, 0)) * KEY)
        prefetch(older, np.int64(rows[near, ROW - 1]) * ROW)


@exact_inlined
def _middle(low, high):  # pragma: no cover: compiled
    return (np.float64(low) + np.float64(high)) / 2


@exact_inlined
def _cell(position):  # pragma: no cover: compiled
    return np.int64(np.floor(position))


@exact_inlined
def _place(column, line, wide, high, unused_bits):  # pragma: no cover: compiled
    """The row of a cell. Four cells below each other are neighbours in memory: one cache line."""
    mixed = (
        np.uint64(column) * np.uint64(0x9E3779B97F4A7C15)
        + np.uint64(line >> 2) * np.uint64(0xC2B2AE3D27D4EB4F)
        + np.uint64(wide * 256 + high) * np.uint64(0x165667B19E3779F9)
    )
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
    return (np.int64(mixed >> (unused_bits + np.uint64(2))) << 2) | (line & 3)
