"""Suppressors that go on by rounds, compiled by numba; arguments are as in ``compiled``."""

import numpy as np

from postnms.ops.jit import exact
from postnms.suppression.kernels.overlaps import iou_among, longest_group


@exact
def soften(
    columns, starts, scores, rows, settings, log_variance, voted, final
):  # pragma: no cover: compiled
    """Soft-NMS of each group, with variance voting if ``log_variance`` (4, n) is not (4, 0).

    ``settings``: method (0 hard, 1 linear, 2 Gaussian), IoU threshold, sigma, least score, sigma of the votes, least
    IoU of a vote. ``final`` (n,): the score of each candidate when it was selected, -1 for those that never were;
    ``voted`` (4, n): its edges then.
    """
    final[:] = -1
    longest = longest_group(starts)
    boxes, iou = np.empty((4, longest), scores.dtype), np.empty(longest, scores.dtype)
    place, current = np.empty(longest, np.int64), np.empty(longest, scores.dtype)
    for group in range(len(starts) - 1):
        count = starts[group + 1] - starts[group]
        for a in range(count):
            place[a], current[a] = starts[group] + a, scores[starts[group] + a]
            boxes[:, a] = columns[:, place[a]]
        count = _compact(boxes, place, current, count, settings.min_score)
        best, left = _best(current, place, rows, count), count
        while best >= 0:
            chosen = place[best]
            final[chosen] = current[best]
            iou_among(boxes, best, 0, count, iou)
            if log_variance.shape[1]:
                _vote(columns, place[:count], current, iou, chosen, log_variance, settings, voted)
            current[best] = -1
            best, left = _decay(place, current, iou, rows, count, settings)
            if 2 * left < count:
                count = _compact(boxes, place, current, count, settings.min_score)
                best = _best(current, place, rows, count)


@exact
def _best(current, place, rows, count):  # pragma: no cover: compiled
    """The best score that is not gone, of equal ones that of the lower row; -1 if all are gone."""
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
    """Move what is not gone together; returns how many stay."""
    kept = 0
    for a in range(count):
        if current[a] >= least and current[a] >= 0:
            for edge in range(4):
                boxes[edge, kept] = boxes[edge, a]
            place[kept], current[kept] = place[a], current[a]
            kept += 1
    return kept


@exact
def _decay(place, current, iou, rows, count, settings):  # pragma: no cover: compiled
    """Lower the scores of what overlaps the selected box; -1 where it is gone. Returns the next best, how many stay."""
    method, threshold, sigma, least = (
        settings.method,
        settings.iou_threshold,
        settings.sigma,
        settings.min_score,
    )
    one, gone = np.float32(1), np.float32(-1)
    best, top, left = -1, gone, 0
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
            best, top = a, score
        elif score == top and best >= 0 and rows[place[a]] < rows[place[best]]:
            best = a
    return best, left


@exact
def _vote(
    columns, place, current, iou, chosen, log_variance, settings, voted
):  # pragma: no cover: compiled
    """Fill the edges of the selected box in ``voted`` with the means over what overlaps it."""
    one, sigma, least = np.float32(1), settings.vote_sigma, settings.vote_iou
    exponent = np.empty(len(place), np.float32)
    for edge in range(4):
        largest = np.float32(-np.inf)
        for a in range(len(place)):
            exponent[a] = -np.inf
            if current[a] >= 0 and (iou[a] > least or place[a] == chosen):
                away = one - iou[a] if place[a] != chosen else np.float32(0)
                exponent[a] = -(away * away) / sigma - log_variance[edge, place[a]]
                largest = max(largest, exponent[a])
        total, weights = np.float32(0), np.float32(0)
        for a in range(len(place)):
            weight = np.exp(exponent[a] - largest)
            total += weight * columns[edge, place[a]]
            weights += weight
        voted[edge, chosen] = total / weights
