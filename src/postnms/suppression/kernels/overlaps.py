"""Loops over pairs compiled by numba, for CPU tensors; the torch code beside each caller is what they must equal.

``columns`` (4, n): left, top, right and bottom of ranked candidates; ``starts`` (g + 1,): where each group begins.
``iou_row`` runs over one contiguous array a coordinate and without a branch, so that it fills vector registers; what
is done with the row comes after it. No fast-math: values are rounded after every operation, as torch rounds them.
"""

import numpy as np

from postnms.ops.jit import exact, exact_inlined


@exact_inlined
def shared_of(first, i, second, j):  # pragma: no cover: compiled
    """Area that box i of the first columns shares with box j of the second."""
    zero = np.float32(0)
    width = min(first[2, i], second[2, j]) - max(first[0, i], second[0, j])
    height = min(first[3, i], second[3, j]) - max(first[1, i], second[1, j])
    return max(width, zero) * max(height, zero)


@exact_inlined
def area_of(columns, i):  # pragma: no cover: compiled
    """Area of box i."""
    return (columns[2, i] - columns[0, i]) * (columns[3, i] - columns[1, i])


@exact_inlined
def iou_of(first, i, second, j):  # pragma: no cover: compiled
    """IoU of box i of the first columns with box j of the second."""
    shared = shared_of(first, i, second, j)
    union = area_of(first, i) + area_of(second, j) - shared
    return shared / union if union > 0 else np.float32(0)


@exact
def _distance(columns, i, j):  # pragma: no cover: compiled
    two = np.float32(2)
    across = (columns[0, i] + columns[2, i] - columns[0, j] - columns[2, j]) / two
    down = (columns[1, i] + columns[3, i] - columns[1, j] - columns[3, j]) / two
    width = max(columns[2, i], columns[2, j]) - min(columns[0, i], columns[0, j])
    height = max(columns[3, i], columns[3, j]) - min(columns[1, i], columns[1, j])
    diagonal = width * width + height * height
    return (across * across + down * down) / diagonal if diagonal > 0 else np.float32(0)


@exact
def _overlap(columns, i, j, measure, beta):  # pragma: no cover: compiled
    """IoU (0), intersection over the smaller box (1) or IoU less the distance to the power of beta (2)."""
    if measure == 1:
        smaller = min(area_of(columns, i), area_of(columns, j))
        return shared_of(columns, i, columns, j) / smaller if smaller > 0 else np.float32(0)
    iou = iou_of(columns, i, columns, j)
    if measure == 0:
        return iou
    distance = _distance(columns, i, j)
    return iou - (distance if beta == 1 else distance ** np.float32(beta))


@exact
def assign_owners(
    columns, starts, thresholds, measure, beta, separate, owner
):  # pragma: no cover: compiled
    """Fill ``owner`` (n,), -1 at first; ``separate``: (n,), or (0,) for nothing."""
    for group in range(len(starts) - 1):
        for i in range(starts[group], starts[group + 1]):
            if owner[i] >= 0:
                continue
            owner[i] = i
            for j in range(i + 1, starts[group + 1]):
                if owner[j] >= 0 or (len(separate) and separate[i] == separate[j]):
                    continue
                if _overlap(columns, i, j, measure, beta) > thresholds[i]:
                    owner[j] = i


@exact
def iou_row(box, lefts, tops, rights, bottoms, iou):  # pragma: no cover: compiled
    """Fill ``iou`` with the IoU of a box (4,) with each of the others, given by coordinate."""
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
    """Fill the start of ``iou`` with the IoU of candidate i with those from start to end."""
    # Slices of contiguous rows stay contiguous for the compiler; those of a matrix would not.
    lefts, tops, rights, bottoms = columns[0], columns[1], columns[2], columns[3]
    iou_row(
        columns[:, i], lefts[start:end], tops[start:end], rights[start:end], bottoms[start:end], iou
    )


@exact
def longest_group(starts):  # pragma: no cover: compiled
    """Candidates of the largest group."""
    most = 0
    for group in range(len(starts) - 1):
        most = max(most, starts[group + 1] - starts[group])
    return most


@exact
def overlapping(columns, starts, firsts, threshold):  # pragma: no cover: compiled
    """Pairs (first, second, IoU): each of ``firsts`` with itself and what it overlaps by more than the threshold."""
    size, count = max(2 * len(firsts), 16), 0
    first, second, overlap = (
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.float32),
    )
    iou = np.empty(longest_group(starts), np.float32)
    for group in range(len(starts) - 1):
        start, end = starts[group], starts[group + 1]
        for i in range(start, end):
            if not firsts[i]:
                continue
            iou_among(columns, i, start, end, iou)
            for j in range(start, end):
                if iou[j - start] > threshold or i == j:
                    if count == size:
                        size *= 2
                        first = np.append(first, np.empty_like(first))
                        second = np.append(second, np.empty_like(second))
                        overlap = np.append(overlap, np.empty_like(overlap))
                    first[count], second[count], overlap[count] = i, j, iou[j - start]
                    count += 1
    return first[:count].copy(), second[:count].copy(), overlap[:count].copy()
