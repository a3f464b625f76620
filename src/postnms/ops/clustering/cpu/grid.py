"""Settling of a large group with a hash grid, in time about linear in the number of its boxes.

It runs for groups of at least ``GRID_FROM`` boxes that :func:`fits_the_grid` accepts, because
there it is faster than comparing each key with all later boxes.

Two boxes with IoU > t share more than t of the area of each. So no side is longer than 1/t times
the same side of the other box, and along x and along y the centres are closer than (1 - t) of the
longer side. Boxes are therefore sorted into cells by the level of the width, the level of the
height and the position of the centre. A level spans a factor of 4 in length, and the cells of a
level are about (1 - t) of its longest side wide.

A box that becomes a key is noted in every cell in which a box that it may suppress could lie. These
are about 14 cells (``_places``). The boxes are visited by falling score. Each box looks only at the
keys that are noted in its cell. It belongs to the first of them that overlaps it, or else it
becomes a key.

Cells are rows of a hash table. If two cells share a row, this costs additional tests but changes
no result, since the IoU decides. A row holds three keys and a link to an older row of the cell.
Rows and keys are spread over memory, so they are prefetched some boxes ahead. Sides, centres and
distances are in float64, with a margin that exceeds the rounding error of a float32 IoU.
"""

from collections import namedtuple

import numpy as np

from postnms.ops.jit import exact, exact_inlined, prefetch

LEAST_THRESHOLD = 0.01
"""Smallest IoU threshold for the grid.

Below it a key would be noted in too many cells. At 0 their number has no bound.
"""
MARGIN = 1e-5
"""Relative tolerance, larger than the rounding error of a float32 IoU."""
FINEST = 2.0**-30
"""Smallest side in the grid, as a fraction of its distance from the origin along the same axis.

The cell of a smaller side would be inexact. No float32 side of positive length is smaller.
"""
SHORTEST, LONGEST = 1e-30, 1e30
"""Shortest and longest side that is placed in the grid. float32 holds both with room to spare."""
LEAST_AREA = 1e-35
"""Smallest area in the grid, other than 0.

Where it suppresses, the shared area is over 1 % of it (``LEAST_THRESHOLD``). Both are then normal
numbers of float32. Below about 1e-38 lie the subnormal ones, whose rounding error has no bound
relative to their size, and so the IoU would have none.
"""
LEVEL_BITS = 24
"""Number of low bits of a float32 length that its level ignores. 23 bits: a factor of 2 a level."""
LEAST = (
    np.minimum(np.arange((1 << (31 - LEVEL_BITS)) + 1) << LEVEL_BITS, 0x7F800000)
    .astype(np.int32)
    .view(np.float32)
    .astype(np.float64)
)
"""Shortest side of each level, then infinity."""
AHEAD = 10
"""Number of boxes between the box that is settled and the box whose keys are prefetched."""
ROW = 4
"""Number of entries of a row: three keys, counted from 1, and the older row. 0 stands for none."""
SLACK = 1e-3
"""Tolerance in cells, larger than the rounding error of a coordinate."""
KEY = 8
"""Number of entries of a key, of which five are used.

In float32, two keys fill a cache line and no key lies across two lines.
"""
NONE = np.int32(2**31 - 1)
"""Number of a key that does not exist, larger than that of any key."""

Cells = namedtuple("Cells", "least per_pixel threshold unused_bits")
"""Geometry of the grid.

``least``: shortest side of each level. ``per_pixel``: cells in a pixel, for each level.
``threshold``: the IoU threshold, lowered by the margin. ``unused_bits``: low bits of a hash that
the table does not use.
"""


@exact
def fits_the_grid(box, threshold):  # pragma: no cover: compiled
    """Tell whether :func:`settle_near` may settle a group. :func:`settle_all` may settle any group.

    ``box``: the columns lefts, tops, rights, bottoms and areas.
    """
    lefts, tops, rights, bottoms, areas = box
    if not LEAST_THRESHOLD <= threshold < 1:
        return False
    for i in range(len(areas)):
        # A box without an area overlaps nothing, so its place does not matter.
        if areas[i] > 0 and not (
            areas[i] >= LEAST_AREA
            and _is_placed(lefts[i], rights[i])
            and _is_placed(tops[i], bottoms[i])
        ):
            return False
    return True


@exact_inlined
def _is_placed(low, high):  # pragma: no cover: compiled
    """Tell whether the cell of a side from ``low`` to ``high`` is exact enough along its axis."""
    side = np.float64(high - low)
    return max(SHORTEST, FINEST * max(abs(low), abs(high))) <= side <= LONGEST


@exact
def settle_near(box, owner, offset, threshold):  # pragma: no cover: compiled
    """Fill ``owner`` for one group, whose first row is ``offset``.

    ``box``: the columns lefts, tops, rights, bottoms and areas, by falling score.
    """
    lefts, tops, rights, bottoms, areas = box
    count = len(lefts)
    cells, rows = _new_cells(count, np.float64(threshold))
    older = np.zeros((count // 4 + 8, ROW), np.int32)
    used = 1
    keys = np.empty((count, KEY), lefts.dtype)
    key_rows = np.empty(count, np.int32)
    num_keys = 0
    places = np.empty(64, np.int64)
    own, levels = _own_places(box, cells)
    for i in range(count):
        _ask_ahead(own, i, rows, older, keys)
        row = offset + i
        owner[row] = row
        if not 0 < areas[i] < np.inf:
            continue  # The IoU with any box is 0, so this key owns nothing else.
        key = _first_owner(
            rows, older, own[i], keys, lefts[i], tops[i], rights[i], bottoms[i], areas[i], threshold
        )
        if key < NONE:
            owner[row] = key_rows[key]
            continue
        keys[num_keys, 0], keys[num_keys, 1], keys[num_keys, 2] = lefts[i], tops[i], rights[i]
        keys[num_keys, 3], keys[num_keys, 4] = bottoms[i], areas[i]
        key_rows[num_keys] = row
        num_keys += 1
        places, number = _places(
            lefts[i], tops[i], rights[i], bottoms[i], levels[0, i], levels[1, i], cells, places
        )
        for at in range(number):
            prefetch(rows, places[at] * ROW)  # pyright: ignore[reportCallIssue]
        for at in range(number):
            if used == len(older):
                older = _grown(older)
            used = _note(rows, older, used, places[at], num_keys)


@exact
def _new_cells(count, threshold):  # pragma: no cover: compiled
    """Return the geometry for all positive float32 sides, and an empty hash table.

    The table has a power of two of rows, and at least two rows for each box.
    """
    safe = threshold * (1 - MARGIN)
    # The lower the threshold is, the farther a key reaches. Larger cells limit their number.
    side = max(1.0, 0.2 / safe) * max(1 - safe, 1 / 64)
    table_bits = 3
    while (1 << table_bits) < 2 * count:
        table_bits += 1
    per_pixel = np.empty(len(LEAST) - 1, np.float64)
    for level in range(len(per_pixel)):
        per_pixel[level] = 1 / (side * LEAST[level + 1])
    cells = Cells(LEAST, per_pixel, safe, np.uint64(64 - table_bits))
    return cells, np.zeros((1 << table_bits, ROW), np.int32)


@exact
def _grown(rows):  # pragma: no cover: compiled
    """Return a table that begins with the given rows and has twice as many."""
    grown = np.zeros((2 * len(rows), ROW), np.int32)
    for row in range(len(rows)):
        for slot in range(ROW):
            grown[row, slot] = rows[row, slot]
    return grown


@exact
def _own_places(box, cells):  # pragma: no cover: compiled
    """Return the row of the cell of each box, (count,) int32, and its levels, (2, count) int32."""
    lefts, tops, rights, bottoms, areas = box
    own = np.empty(len(areas), np.int32)
    sides = np.empty((2, len(areas)), np.float32)
    for i in range(len(areas)):
        sides[0, i] = rights[i] - lefts[i]
        sides[1, i] = bottoms[i] - tops[i]
    # The high bits of a positive float grow with its logarithm. They serve as the level.
    levels = sides.view(np.int32)
    for i in range(len(areas)):
        wide = levels[0, i] >> LEVEL_BITS
        high = levels[1, i] >> LEVEL_BITS
        levels[0, i], levels[1, i] = wide, high
        column = _cell(_middle(lefts[i], rights[i]) * cells.per_pixel[wide])
        line = _cell(_middle(tops[i], bottoms[i]) * cells.per_pixel[high])
        own[i] = _place(column, line, wide, high, cells.unused_bits)
    return own, levels


@exact
def _places(left, top, right, bottom, wide, high, cells, places):  # pragma: no cover: compiled
    """Return the rows of all cells in which a box that this key may suppress can lie.

    The rows are written into ``places``, or into a longer array if it is too short. Returns that
    array and the number of rows. ``wide`` and ``high`` are the levels of the key's sides.
    """
    x = _middle(left, right)
    y = _middle(top, bottom)
    # Rounded to float32, like the sides by which boxes are sorted into levels.
    width = np.float64(np.float32(right - left))
    height = np.float64(np.float32(bottom - top))
    number = 0
    narrowest, widest = _like(width, wide, cells)
    lowest, highest = _like(height, high, cells)
    for wide in range(narrowest, widest + 1):
        for high in range(lowest, highest + 1):
            reach_x, reach_y = _reaches(width, height, cells, wide, high)
            if reach_x < 0 or reach_y < 0:
                continue
            per_x = cells.per_pixel[wide]
            per_y = cells.per_pixel[high]
            first = _cell((x - reach_x) * per_x - SLACK)
            last = _cell((x + reach_x) * per_x + SLACK)
            upper = _cell((y - reach_y) * per_y - SLACK)
            lower = _cell((y + reach_y) * per_y + SLACK)
            needed = number + (last - first + 1) * (lower - upper + 1)
            if needed > len(places):
                longer = np.empty(2 * needed, np.int64)
                for at in range(number):
                    longer[at] = places[at]
                places = longer
            for column in range(first, last + 1):
                for line in range(upper, lower + 1):
                    places[number] = _place(column, line, wide, high, cells.unused_bits)
                    number += 1
    return places, number


@exact_inlined
def _like(side, level, cells):  # pragma: no cover: compiled
    """Return the first and the last level of sides within a factor of the threshold of ``side``.

    ``level``: the level of ``side``.
    """
    first = level
    last = level
    while cells.least[first] > side * cells.threshold:
        first -= 1
    while cells.least[last + 1] <= side / cells.threshold:
        last += 1
    return first, last


@exact_inlined
def _reaches(width, height, cells, wide, high):  # pragma: no cover: compiled
    """Return how far away, along x and along y, the centre of a box of the given levels can be.

    A negative distance means that no box of these levels can be suppressed.

    Let the other box be at most f times as high as the key, with f <= 1. Then the shared part is at
    most f times as high as the key, so it must be over t / f of the key's width. Let the key be at
    most f times as high as the other box. Then it must be over t / f of the other box's width. The
    same holds with width and height exchanged.
    """
    least = cells.least
    t = cells.threshold
    narrow_by = min(1.0, least[wide + 1] / width)
    wide_by = min(1.0, width / max(least[wide], 1e-300))
    low_by = min(1.0, least[high + 1] / height)
    high_by = min(1.0, height / max(least[high], 1e-300))
    across = _reach(width, least[wide], least[wide + 1], t / low_by, t / high_by)
    down = _reach(height, least[high], least[high + 1], t / narrow_by, t / wide_by)
    return across, down


@exact_inlined
def _reach(side, least, longest, share, share_of_other):  # pragma: no cover: compiled
    """Return the largest distance between the centres of two sides, or -1 if they cannot match.

    The sides share over ``share`` of this side and over ``share_of_other`` of the other one. The
    other side is between ``least`` and ``longest`` long.
    """
    least = max(least, share * side)
    longest = min(longest, side / share_of_other)
    if least > longest:
        return -1.0
    # The distance is half the sum of the sides less what they must share. Its slope in the other
    # side changes only at the turn, where both shares demand the same length. The maximum lies
    # there or at the longest side.
    turn = min(max(share * side / share_of_other, least), longest)
    at_turn = (side + turn) / 2 - max(share * side, share_of_other * turn)
    return max(at_turn, (side + longest) / 2 - max(share * side, share_of_other * longest))


@exact_inlined
def _first_owner(
    rows, older, place, keys, left, top, right, bottom, area, threshold
):  # pragma: no cover: compiled
    """Return the number of the first key noted at ``place`` that overlaps the box, or NONE."""
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
    """Return the number of the first key in one row that overlaps the box, or NONE."""
    first = NONE
    zero = threshold - threshold
    for slot in range(ROW - 1):
        # The keys of a row are counted from 1, and 0 ends them.
        key = table[row, slot] - np.int32(1)
        if key < 0:
            break
        x1 = keys[key, 0] if keys[key, 0] > left else left
        y1 = keys[key, 1] if keys[key, 1] > top else top
        x2 = keys[key, 2] if keys[key, 2] < right else right
        y2 = keys[key, 3] if keys[key, 3] < bottom else bottom
        width = x2 - x1
        height = y2 - y1
        if width > zero and height > zero:
            shared = width * height
            if shared / (keys[key, 4] + area - shared) > threshold:
                first = min(first, key)
    return first


@exact_inlined
def _note(rows, older, used, place, key):  # pragma: no cover: compiled
    """Write a key, counted from 1, into the row ``place``, and return the new ``used``.

    A full row moves to the end of ``older``, of which ``used`` rows are in use.
    """
    for slot in range(ROW - 1):
        if rows[place, slot] == 0:
            rows[place, slot] = key
            return used
    for slot in range(ROW):
        older[used, slot] = rows[place, slot]
    rows[place, 0], rows[place, 1], rows[place, 2], rows[place, 3] = key, 0, 0, used
    return used + 1


@exact_inlined
def _ask_ahead(own, i, rows, older, keys):  # pragma: no cover: compiled
    """Prefetch the row of a box far ahead, and the keys and the older row of a nearer box.

    The row of the nearer box has been prefetched by an earlier call, so it is read at once.
    """
    if i + 2 * AHEAD < len(own):
        prefetch(rows, np.int64(own[i + 2 * AHEAD]) * ROW)  # pyright: ignore[reportCallIssue]
        near = own[i + AHEAD]
        for slot in range(ROW - 1):
            prefetch(keys, np.int64(max(rows[near, slot] - 1, 0)) * KEY)
        prefetch(older, np.int64(rows[near, ROW - 1]) * ROW)


@exact_inlined
def _middle(low, high):  # pragma: no cover: compiled
    """Return the centre of a side, in float64."""
    return (np.float64(low) + np.float64(high)) / 2


@exact_inlined
def _cell(position):  # pragma: no cover: compiled
    """Return the number of the cell at a position that is measured in cells."""
    return np.int64(np.floor(position))


@exact_inlined
def _place(column, line, wide, high, unused_bits):  # pragma: no cover: compiled
    """Return the row of a cell in the hash table.

    Four cells below each other are neighbours in memory and share a cache line.
    """
    mixed = (
        np.uint64(column) * np.uint64(0x9E3779B97F4A7C15)
        + np.uint64(line >> 2) * np.uint64(0xC2B2AE3D27D4EB4F)
        + np.uint64(wide * 256 + high) * np.uint64(0x165667B19E3779F9)
    )
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
    return (np.int64(mixed >> (unused_bits + np.uint64(2))) << 2) | (line & 3)
