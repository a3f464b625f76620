"""Kernels over pairs of overlapping boxes, the compiled twins of ``../overlaps.py``.

They run when the candidates are CPU tensors (backend ``cpu``), and must equal the torch code of
their twins, ties included. The other kernels of this folder use them too.

All kernels of this folder take the ranked candidates by these two arguments:

- ``columns`` (4, n) float32: the left, top, right and bottom edges of the boxes, in pixels.
- ``starts`` (g + 1,) int64: group i holds the positions starts[i] to starts[i + 1] - 1.

:func:`iou_row` runs over one contiguous array per coordinate and without a branch, so that the
compiler uses vector instructions. Its callers handle the thresholds afterwards, in a second loop
over the row. There is no fast-math, so values are rounded after every operation, as torch does.

n: candidates, g: groups, p: pairs.
"""

import numpy as np

from postnms.ops.jit import exact, exact_inlined


@exact_inlined
def shared_of(first, i, second, j):  # pragma: no cover: compiled
    """Return the area that box i of the columns ``first`` shares with box j of ``second``."""
    zero = np.float32(0)
    width = min(first[2, i], second[2, j]) - max(first[0, i], second[0, j])
    height = min(first[3, i], second[3, j]) - max(first[1, i], second[1, j])
    return max(width, zero) * max(height, zero)


@exact_inlined
def area_of(columns, i):  # pragma: no cover: compiled
    """Return the area of box i."""
    return (columns[2, i] - columns[0, i]) * (columns[3, i] - columns[1, i])


@exact_inlined
def iou_of(first, i, second, j):  # pragma: no cover: compiled
    """Return the IoU of box i of the columns ``first`` with box j of ``second``.

    It is 0 where both boxes have no area.
    """
    shared = shared_of(first, i, second, j)
    union = area_of(first, i) + area_of(second, j) - shared
    return shared / union if union > 0 else np.float32(0)


@exact_inlined
def ios_of(first, i, second, j):  # pragma: no cover: compiled
    """Return the area that two boxes share, as in :func:`iou_of`, over the smaller area.

    It is 0 where the smaller box has no area.
    """
    smaller = min(area_of(first, i), area_of(second, j))
    return shared_of(first, i, second, j) / smaller if smaller > 0 else np.float32(0)


@exact
def _distance(columns, i, j):  # pragma: no cover: compiled
    """Return the squared distance of two centres over the squared diagonal around both boxes."""
    two = np.float32(2)
    across = (columns[0, i] + columns[2, i] - columns[0, j] - columns[2, j]) / two
    down = (columns[1, i] + columns[3, i] - columns[1, j] - columns[3, j]) / two
    width = max(columns[2, i], columns[2, j]) - min(columns[0, i], columns[0, j])
    height = max(columns[3, i], columns[3, j]) - min(columns[1, i], columns[1, j])
    diagonal = width * width + height * height
    return (across * across + down * down) / diagonal if diagonal > 0 else np.float32(0)


@exact
def _overlap(columns, i, j, measure, beta):  # pragma: no cover: compiled
    """Return the overlap of boxes i and j.

    ``measure`` is the position of the measure in ``MEASURES`` of ``../overlaps.py``. 0: IoU. 1:
    intersection over the area of the smaller box. 2: IoU minus the relative distance of the centres
    to the power of ``beta``.
    """
    if measure == 1:
        return ios_of(columns, i, columns, j)
    iou = iou_of(columns, i, columns, j)
    if measure == 0:
        return iou
    distance = _distance(columns, i, j)
    return iou - (distance if beta == 1 else distance ** np.float32(beta))


@exact
def assign_owners(
    columns, starts, thresholds, measure, beta, separate, owner
):  # pragma: no cover: compiled
    """Cluster each group as greedy NMS does, and fill ``owner`` with the positions of the keys.

    Args:
        columns: Edges of the boxes, see the module.
        starts: Starts of the groups, see the module.
        thresholds: (n,) float32, the overlap above which each candidate suppresses others as a key.
        measure: Position of the measure in ``MEASURES``.
        beta: Power of the relative distance of the centres.
        separate: (n,) int64, candidates with equal numbers never suppress each other. If it is
            empty, all may suppress each other.
        owner: (n,) int64, output. All entries must be -1 on entry.
    """
    for group in range(len(starts) - 1):
        for i in range(starts[group], starts[group + 1]):
            if owner[i] >= 0:
                continue
            # No key owns i, so i becomes a key. It owns all that it overlaps and no key owns yet.
            owner[i] = i
            for j in range(i + 1, starts[group + 1]):
                if owner[j] >= 0 or (len(separate) and separate[i] == separate[j]):
                    continue
                if _overlap(columns, i, j, measure, beta) > thresholds[i]:
                    owner[j] = i


@exact
def iou_row(box, lefts, tops, rights, bottoms, iou):  # pragma: no cover: compiled
    """Fill ``iou`` (m,) with the IoU of a box (4,) with m others, which are given by coordinate.

    The four coordinate arrays (m,) must be contiguous. ``iou`` may be longer than m.
    """
    zero = np.float32(0)
    left, top, right, bottom = box[0], box[1], box[2], box[3]
    area = (right - left) * (bottom - top)
    for i in range(len(lefts)):
        width = min(right, rights[i]) - max(left, lefts[i])
        height = min(bottom, bottoms[i]) - max(top, tops[i])
        shared = max(width, zero) * max(height, zero)
        union = area + (rights[i] - lefts[i]) * (bottoms[i] - tops[i]) - shared
        iou[i] = shared / union if union > 0 else zero


@exact
def iou_among(columns, i, start, end, iou):  # pragma: no cover: compiled
    """Fill ``iou[: end - start]`` with the IoU of candidate i with start to end - 1."""
    # The compiler knows that a slice of a contiguous row is contiguous. It does not know that of
    # `columns[0, start:end]`.
    lefts, tops, rights, bottoms = columns[0], columns[1], columns[2], columns[3]
    iou_row(
        columns[:, i], lefts[start:end], tops[start:end], rights[start:end], bottoms[start:end], iou
    )


@exact
def longest_group(starts):  # pragma: no cover: compiled
    """Return the number of candidates of the largest group."""
    most = 0
    for group in range(len(starts) - 1):
        most = max(most, starts[group + 1] - starts[group])
    return most


@exact
def overlapping(columns, starts, firsts, threshold):  # pragma: no cover: compiled
    """Return the pairs of the selected candidates with the candidates that they overlap.

    ``firsts`` (n,) bool selects the candidates that may be the first of a pair. A pair has an IoU
    over the threshold, or is a candidate with itself. Returns the columns of
    :class:`postnms.suppression.pairs.Pairs`, first (p,), second (p,) and IoU (p,), ordered by first
    and then by second.
    """
    size = max(2 * len(firsts), 16)
    count = 0
    first = np.empty(size, np.int64)
    second = np.empty(size, np.int64)
    overlap = np.empty(size, np.float32)
    iou = np.empty(longest_group(starts), np.float32)
    for group in range(len(starts) - 1):
        start = starts[group]
        end = starts[group + 1]
        for i in range(start, end):
            if not firsts[i]:
                continue
            iou_among(columns, i, start, end, iou)
            for j in range(start, end):
                if iou[j - start] > threshold or i == j:
                    # The number of pairs is not known beforehand, so the arrays grow by doubling.
                    if count == size:
                        size *= 2
                        first = np.append(first, np.empty_like(first))
                        second = np.append(second, np.empty_like(second))
                        overlap = np.append(overlap, np.empty_like(overlap))
                    first[count] = i
                    second[count] = j
                    overlap[count] = iou[j - start]
                    count += 1
    return first[:count].copy(), second[:count].copy(), overlap[:count].copy()
