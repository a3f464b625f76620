"""Sorting of candidates and numbering of their keys, in linear time. Runs on every CPU call.

The sort is a radix sort that begins with the least significant digit. A pass counts how many
numbers have each value of the digit, and moves every number to its position, which keeps the order
among equal ones. Digits have 11 bits. For few numbers they have 8 bits, since clearing the counts
would dominate. A digit that is equal in all numbers costs no move. For very few numbers even those
counts would dominate, and the position of each number is counted in a comparison with all others.

n: candidates, g: groups, k: keys.
"""

import numpy as np

from postnms.ops.jit import exact, exact_inlined

VERY_FEW = 128
"""Largest number of values that are sorted by comparing each with all others."""
FEW = 4096
"""Largest number of values that are sorted with digits of 8 bits."""


@exact
def rank_candidates(bits, groups):  # pragma: no cover: compiled
    """Sort the candidates by group, then by falling score, then by index.

    Args:
        bits: (n,) int32 or int64, the bits of the float scores, read as signed integers.
        groups: (n,) int64, >= 0.

    Returns:
        order: (n,) int32, the candidate in each row.
        starts: (g + 1,) int32, the first row of each group, then n.
        row_of_rank: (n,) int32, the row of each candidate, by falling score over all groups.
    """
    n = len(bits)
    by_score = _sort(_falling(bits), np.uint64(8 * bits.itemsize))
    highest = np.int64(0)
    lowest = np.int64(0)
    if n:
        highest = lowest = groups[0]
    for i in range(n):
        highest = max(highest, groups[i])
        lowest = min(lowest, groups[i])
    # With one group, or with no candidate at all, the order by score is the result.
    if highest == lowest:
        starts = np.zeros(2 if n else 1, np.int32)
        starts[-1] = n
        return by_score, starts, _count_up(n)
    # The sort is stable: sorting by group what is sorted by score keeps that order in each group.
    ranked = np.empty(n, np.uint64)
    for i in range(n):
        ranked[i] = groups[by_score[i]] - lowest
    width = np.uint64(0)
    while (np.uint64(highest - lowest) >> width) != 0:
        width += np.uint64(1)
    rank_of_row = _sort(ranked, width)
    order = np.empty(n, np.int32)
    row_of_rank = np.empty(n, np.int32)
    starts = np.empty(n + 1, np.int32)
    count = 0
    for row in range(n):
        rank = rank_of_row[row]
        order[row] = by_score[rank]
        row_of_rank[rank] = row
        if row == 0 or ranked[rank] != ranked[rank_of_row[row - 1]]:
            starts[count] = row
            count += 1
    starts[count] = n
    return order, starts[: count + 1].copy(), row_of_rank


@exact
def _count_up(n):  # pragma: no cover: compiled
    """Return the numbers from 0 to n - 1, (n,) int32."""
    numbers = np.empty(n, np.int32)
    for i in range(n):
        numbers[i] = i
    return numbers


@exact
def _falling(bits):  # pragma: no cover: compiled
    """Return (n,) uint64 numbers that grow as the floats with these bits fall.

    The floats -0 and 0 get the same number.
    """
    sign = np.int64(-1) << np.int64(8 * bits.itemsize - 1)
    all_bits = np.uint64((~sign << 1) | 1)
    falling = np.empty(len(bits), np.uint64)
    for i in range(len(bits)):
        value = np.int64(0) if bits[i] == sign else np.int64(bits[i])
        # As integers, the bits of positive floats rise with the float, and those of negative floats
        # fall. Only the bits of positive floats are therefore inverted.
        falling[i] = np.uint64(value ^ ~sign if value >= 0 else value) & all_bits
    return falling


@exact
def number_keys(order, row_of_rank, owner):  # pragma: no cover: compiled
    """Number the keys by falling score over all groups.

    ``owner`` (n,) int32 is the row of the key of each row. ``order`` and ``row_of_rank`` come from
    :func:`rank_candidates`. Returns the keys (k,) int64 and the assignment (n,) int64.
    """
    n = len(order)
    keys = np.empty(n, np.int64)
    assignment = np.empty(n, np.int64)
    position = np.empty(n, np.int32)
    count = 0
    for rank in range(n):
        row = row_of_rank[rank]
        # A row that owns itself is a key.
        if owner[row] == row:
            keys[count] = order[row]
            position[row] = count
            count += 1
    for row in range(n):
        assignment[order[row]] = position[owner[row]]
    return keys[:count].copy(), assignment


@exact
def _sort(numbers, width):  # pragma: no cover: compiled
    """Return the indices (n,) int32 of unsigned ``numbers`` below 2**width, in rising order.

    Equal numbers keep their order. ``numbers`` is not changed.
    """
    n = len(numbers)
    if n <= VERY_FEW:
        return _sort_by_counting(numbers)
    index = _count_up(n)
    digit = np.uint64(8 if n <= FEW else 11)
    mask = (np.uint64(1) << digit) - np.uint64(1)
    start = np.empty(np.int64(mask) + 1, np.int32)
    source = numbers
    target, spare = np.empty_like(numbers), np.empty_like(numbers)
    moved = np.empty_like(index)
    shift = np.uint64(0)
    while n and shift < width:
        start[:] = 0
        for i in range(n):
            start[(np.uint64(source[i]) >> shift) & mask] += 1
        if start[(np.uint64(source[0]) >> shift) & mask] < n:
            # From counts to the first position of each value of the digit.
            total = 0
            for value in range(len(start)):
                total, start[value] = total + start[value], total
            for i in range(n):
                value = (np.uint64(source[i]) >> shift) & mask
                target[start[value]] = source[i]
                moved[start[value]] = index[i]
                start[value] += 1
            index, moved = moved, index
            # ``numbers`` belongs to the caller and must not become the target of the next pass.
            if shift == 0 or source is numbers:
                source, target = target, spare
            else:
                source, target = target, source
        shift += digit
    return index


@exact
def _sort_by_counting(numbers):  # pragma: no cover: compiled
    """Return what :func:`_sort` returns, after n * n comparisons on vector registers."""
    n = len(numbers)
    index = np.empty(n, np.int32)
    for i in range(n):
        # Of equal numbers, the one that comes first stays first.
        at_most = _count_at_most(numbers[:i], numbers[i])
        index[at_most + _count_below(numbers[i + 1 :], numbers[i])] = i
    return index


@exact_inlined
def _count_at_most(numbers, limit):  # pragma: no cover: compiled
    """Return how many numbers are not above a limit."""
    count = 0
    for i in range(len(numbers)):
        count += numbers[i] <= limit
    return count


@exact_inlined
def _count_below(numbers, limit):  # pragma: no cover: compiled
    """Return how many numbers are below a limit."""
    count = 0
    for i in range(len(numbers)):
        count += numbers[i] < limit
    return count
