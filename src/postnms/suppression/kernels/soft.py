"""Kernels of Soft-NMS and variance voting, the compiled twins of ``../soft.py``.

They run when the candidates are CPU tensors (backend ``cpu``), and must equal the torch code of
their twin, except for the last bit of an exponential. The arguments ``columns`` (4, n) and
``starts`` (g + 1,) are those of ``overlaps.py``.

A group is copied to work arrays, whose first ``count`` entries are in use. A current score of -1
marks an entry that was selected or dropped. When fewer than half of the entries are left, the
arrays are compacted, so that a round costs in proportion to the candidates that are left.
"""

import numpy as np

from postnms.ops.jit import exact
from postnms.suppression.kernels.overlaps import iou_among, longest_group


@exact
def soften(
    columns, starts, scores, rows, settings, log_variance, voted, final
):  # pragma: no cover: compiled
    """Run all rounds of all groups, with variance voting if ``log_variance`` is given.

    Args:
        columns: Edges of the boxes.
        starts: Starts of the groups.
        scores: (n,) float32, scores before the first round.
        rows: (n,) int64, rows of the input. They decide ties.
        settings: ``SoftSettings`` in float32. The method is 0 hard, 1 linear, 2 Gaussian.
        log_variance: (4, n) float32, logarithms of the variances of the left, top, right and bottom
            edge, or (4, 0) for Soft-NMS without votes.
        voted: (4, n) float32, output, the edges of each candidate when it was selected. Other
            candidates are not written, and without ``log_variance`` none is.
        final: (n,) float32, output, the score of each candidate when it was selected, -1 for
            candidates that were never selected.
    """
    final[:] = -1
    longest = longest_group(starts)
    boxes = np.empty((4, longest), scores.dtype)
    iou = np.empty(longest, scores.dtype)
    place = np.empty(longest, np.int64)
    current = np.empty(longest, scores.dtype)
    for group in range(len(starts) - 1):
        count = starts[group + 1] - starts[group]
        for a in range(count):
            place[a] = starts[group] + a
            current[a] = scores[starts[group] + a]
            for side in range(4):
                boxes[side, a] = columns[side, place[a]]
        count = _compact(boxes, place, current, count, settings.min_score)
        best = _best(current, place, rows, count)
        left = count
        while best >= 0:
            chosen = place[best]
            final[chosen] = current[best]
            iou_among(boxes, best, 0, count, iou)
            if log_variance.shape[1]:
                _vote(columns, place[:count], current, iou, chosen, log_variance, settings, voted)
            current[best] = -1
            best, left = _decay(place, current, iou, rows, count, settings)
            # Compacting is a pass over the arrays, so it waits until half of the entries are gone.
            if 2 * left < count:
                count = _compact(boxes, place, current, count, settings.min_score)
                best = _best(current, place, rows, count)


@exact
def _best(current, place, rows, count):  # pragma: no cover: compiled
    """Return the entry with the best score, of equal ones the lower row, -1 if none is left."""
    best = -1
    for a in range(count):
        if current[a] < 0:
            continue
        tied = best >= 0 and current[a] == current[best] and rows[place[a]] < rows[place[best]]
        if best < 0 or current[a] > current[best] or tied:
            best = a
    return best


@exact
def _compact(boxes, place, current, count, least):  # pragma: no cover: compiled
    """Move the entries that are left to the front of the arrays, and return their number.

    Entries with a score below ``least`` are not left.
    """
    kept = 0
    for a in range(count):
        if current[a] >= least and current[a] >= 0:
            for edge in range(4):
                boxes[edge, kept] = boxes[edge, a]
            place[kept] = place[a]
            current[kept] = current[a]
            kept += 1
    return kept


@exact
def _decay(place, current, iou, rows, count, settings):  # pragma: no cover: compiled
    """Lower the scores of entries that overlap the selected box, and drop those that score too low.

    The score of a dropped entry becomes -1. Returns the next entry to select, -1 if none is left,
    and the number of entries that are left. Both are found in the same pass.
    """
    method = settings.method
    threshold = settings.iou_threshold
    sigma = settings.sigma
    least = settings.min_score
    one = np.float32(1)
    gone = np.float32(-1)
    best = -1
    top = gone
    left = 0
    for a in range(count):
        score = current[a]
        if score < 0:
            continue
        if method == 2:
            if iou[a] > 0:
                score *= np.exp(-(iou[a] * iou[a]) / sigma)
        elif iou[a] > threshold:
            score = gone if method == 0 else score * (one - iou[a])
        if score < least:
            score = gone
        current[a] = score
        left += score >= 0
        if score > top:
            best = a
            top = score
        elif score == top and best >= 0 and rows[place[a]] < rows[place[best]]:
            best = a
    return best, left


@exact
def _vote(
    columns, place, current, iou, chosen, log_variance, settings, voted
):  # pragma: no cover: compiled
    """Fill ``voted[:, chosen]`` with the weighted means of the edges of the voters."""
    one = np.float32(1)
    sigma = settings.vote_sigma
    least = settings.vote_iou
    exponent = np.empty(len(place), np.float32)
    for edge in range(4):
        largest = np.float32(-np.inf)
        for a in range(len(place)):
            exponent[a] = -np.inf
            if current[a] >= 0 and (iou[a] > least or place[a] == chosen):
                away = one - iou[a] if place[a] != chosen else np.float32(0)
                exponent[a] = -(away * away) / sigma - log_variance[edge, place[a]]
                largest = max(largest, exponent[a])
        # The largest weight is scaled to 1, so no weight overflows and not all of them round to 0.
        total = np.float32(0)
        weights = np.float32(0)
        for a in range(len(place)):
            weight = np.exp(exponent[a] - largest)
            total += weight * columns[edge, place[a]]
            weights += weight
        voted[edge, chosen] = total / weights
