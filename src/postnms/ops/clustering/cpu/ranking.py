"""Sorting candidates and numbering their keys, in linear time.

Least significant digit first: a pass counts how many numbers have each digit and moves every number to its place,
which keeps the order among equal ones. Digits have 11 bits, or 8 for few numbers, where clearing the counts would be
most of the work; a digit that all numbers share costs no move.

n: candidates, g: groups.
"""

import numpy as np

from postnms.ops.jit import exact

FEW = 4096
"""Numbers up to which digits have 8 bits."""


@exact
def rank(bits, groups):  # pragma: no cover: compiled
    """Rows by group, then falling score, then index. ``bits``: scores, whose floats are read as signed integers.

    Returns ``order`` (n,) int32, the candidate in each row; ``starts`` (g + 1,) int32, the first row of each group;
    ``row_of_rank`` (n,) int32, the row of each candidate by score alone.
    """
    n = len(bits)
    by_score = _sort(_falling(bits), np.uint64(8 * bits.itemsize))
    most, least = np.int64(0), np.int64(0)
    if n:
        most, least = groups.max(), groups.min()
    if most == least:
        starts = np.zeros(2 if n else 1, np.int32)
        starts[-1] = n
        return by_score, starts, np.arange(n).astype(np.int32)
    ranked = np.empty(n, np.uint64)
    for i in range(n):
        ranked[i] = groups[by_score[i]] - least
    width = np.uint64(0)
    while (np.uint64(most - least) >> width) != 0:
        width += np.uint64(1)
    rank_of_row = _sort(ranked, width)
    order, row_of_rank = np.empty(n, np.int32), np.empty(n, np.int32)
    starts = np.empty(n + 1, np.int32)
    found = 0
    for row in range(n):
        at = rank_of_row[row]
        order[row], row_of_rank[at] = by_score[at], row
        if row == 0 or ranked[at] != ranked[rank_of_row[row - 1]]:
            starts[found] = row
            found += 1
    starts[found] = n
    return order, starts[: found + 1].copy(), row_of_rank


@exact
def _falling(bits):  # pragma: no cover: compiled
    """(n,) uint64 that grow as the floats with these bits fall; -0 and 0 are one."""
    sign = np.int64(-1) << np.int64(8 * bits.itemsize - 1)
    whole = np.uint64((~sign << 1) | 1)
    falling = np.empty(len(bits), np.uint64)
    for i in range(len(bits)):
        value = np.int64(0) if bits[i] == sign else np.int64(bits[i])
        # The bits of a float grow with it if it is positive, and fall if it is negative.
        falling[i] = np.uint64(value ^ ~sign if value >= 0 else value) & whole
    return falling


@exact
def number(order, row_of_rank, owner):  # pragma: no cover: compiled
    """Keys (k,) int64 by rank, and assignment (n,) int64, from the row of each row's key ``owner`` (n,)."""
    n = len(order)
    keys, assignment = np.empty(n, np.int64), np.empty(n, np.int64)
    position = np.empty(n, np.int32)
    count = 0
    for rank in range(n):
        row = row_of_rank[rank]
        if owner[row] == row:
            keys[count], position[row] = order[row], count
            count += 1
    for row in range(n):
        assignment[order[row]] = position[owner[row]]
    return keys[:count].copy(), assignment


@exact
def _sort(numbers, width):  # pragma: no cover: compiled
    """(n,) int32: the indices of unsigned ``numbers`` below 2**width, which stay as they are, in rising order."""
    n = len(numbers)
    index = np.arange(n).astype(np.int32)
    digit = np.uint64(8 if n <= FEW else 11)
    mask = (np.uint64(1) << digit) - np.uint64(1)
    place = np.empty(np.int64(mask) + 1, np.int32)
    source, target, moved = numbers, np.empty_like(numbers), np.empty_like(index)
    spare = np.empty_like(numbers)
    shift = np.uint64(0)
    while n and shift < width:
        place[:] = 0
        for i in range(n):
            place[(np.uint64(source[i]) >> shift) & mask] += 1
        if place[(np.uint64(source[0]) >> shift) & mask] < n:
            total = 0
            for value in range(len(place)):
                total, place[value] = total + place[value], total
            for i in range(n):
                value = (np.uint64(source[i]) >> shift) & mask
                target[place[value]], moved[place[value]] = source[i], index[i]
                place[value] += 1
            index, moved = moved, index
            if shift == 0 or source is numbers:
                source, target = target, spare
            else:
                source, target = target, source
        shift += digit
    return index
