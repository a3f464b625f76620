"""Suppressors that go on by rounds, compiled by numba; arguments are as in ``compiled``."""

import numpy as np

from postnms.suppression.kernels.overlaps import compiled, inlined, iou_among, iou_row, longest_group


@compiled
def propagate(columns, starts, scores, rows, settings, silenced, changed):  # pragma: no cover: compiled
    """One round of CP-Cluster; see :class:`postnms.suppression.cp_cluster.CPCluster`.

    ``settings``: threshold, friend threshold, least score, and 1 where the closest suppresses instead of the best.
    ``silenced`` (n,): who suppressed each candidate before, -1 for nobody; ``changed`` (n,): the new scores.
    """
    threshold, friendly, least, closest = settings
    suppressor = np.full(len(scores), -1, np.int64)
    iou = np.empty(longest_group(starts), np.float32)
    for group in range(len(starts) - 1):
        for j in range(starts[group], starts[group + 1]):
            changed[j] = scores[j]
            if scores[j] < least:
                continue
            iou_among(columns, j, starts[group], starts[group + 1], iou)
            friends, best_friend = np.float32(0), np.float32(0)
            chosen, nearness = -1, np.float32(0)
            for i in range(starts[group], starts[group + 1]):
                if i == j or scores[i] < least:
                    continue
                overlap = iou[i - starts[group]]
                weaker = scores[i] < scores[j] or (scores[i] == scores[j] and rows[i] > rows[j])
                if weaker:
                    if overlap > friendly:
                        friends += np.float32(1)
                        best_friend = max(best_friend, scores[i])
                    continue
                if overlap <= threshold or silenced[j] == i:
                    continue
                ahead = chosen < 0 or scores[i] > scores[chosen]
                ahead = ahead or (scores[i] == scores[chosen] and rows[i] < rows[chosen])
                if (closest and (overlap > nearness or (overlap == nearness and ahead))) or (not closest and ahead):
                    chosen, nearness = i, overlap
            one = np.float32(1)
            raised = scores[j] + (one - scores[j]) * (friends / (friends + one)) * best_friend
            changed[j] = raised - raised * nearness
            suppressor[j] = chosen
    return suppressor


@compiled
def soften(columns, starts, scores, rows, settings, log_variance, voted, final):  # pragma: no cover: compiled
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
        count = _compact(boxes, place, current, count, settings[3])
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
                count = _compact(boxes, place, current, count, settings[3])
                best = _best(current, place, rows, count)


@compiled
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


@compiled
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


@compiled
def _decay(place, current, iou, rows, count, settings):  # pragma: no cover: compiled
    """Lower the scores of what overlaps the selected box; -1 where it is gone. Returns the next best, how many stay."""
    method, threshold, sigma, least = settings[0], settings[1], settings[2], settings[3]
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


@compiled
def _vote(columns, place, current, iou, chosen, log_variance, settings, voted):  # pragma: no cover: compiled
    """Fill the edges of the selected box in ``voted`` with the means over what overlaps it."""
    one, sigma, least = np.float32(1), settings[4], settings[5]
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


@compiled
def fuse(columns, starts, scores, threshold, owner):  # pragma: no cover: compiled
    """Fill ``owner`` (n,) by Weighted Boxes Fusion: the place of the first box of the fused box that each joins."""
    longest = longest_group(starts)
    fused, totals = np.empty((4, longest), np.float32), np.empty((4, longest), np.float32)
    weights, first = np.empty(longest, np.float32), np.empty(longest, np.int64)
    iou = np.empty(longest, np.float32)
    lefts, tops, rights, bottoms = fused[0], fused[1], fused[2], fused[3]
    for group in range(len(starts) - 1):
        count = 0
        for i in range(starts[group], starts[group + 1]):
            iou_row(columns[:, i], lefts[:count], tops[:count], rights[:count], bottoms[:count], iou)
            best, most = -1, threshold
            for k in range(count):
                if iou[k] > most:
                    best, most = k, iou[k]
            if best < 0:
                best = count
                first[best], weights[best] = i, 0
                totals[:, best] = 0
                count += 1
            owner[i] = first[best]
            weights[best] += scores[i]
            for edge in range(4):
                totals[edge, best] += scores[i] * columns[edge, i]
                mean = totals[edge, best] / weights[best] if weights[best] > 0 else columns[edge, first[best]]
                fused[edge, best] = mean


@inlined
def _proximity(columns, i, j):  # pragma: no cover: compiled
    total = np.float32(0)
    for axis in range(2):
        extent = max(columns[axis + 2, i], columns[axis + 2, j]) - min(columns[axis, i], columns[axis, j])
        moved = abs(columns[axis, i] - columns[axis, j]) + abs(columns[axis + 2, i] - columns[axis + 2, j])
        if extent > 0:
            total += moved / extent
    return total


@inlined
def _term(columns, i, j, threshold, unit):  # pragma: no cover: compiled
    proximity = _proximity(columns, i, j)
    return np.int64(np.float64(min(proximity, np.float32(1)) if proximity < threshold else np.float32(1)) * unit)


@compiled
def conflow(columns, starts, scores, rows, settings, unit, final):  # pragma: no cover: compiled
    """Confluence of each group; see :class:`postnms.suppression.confluence.Confluence`.

    ``settings``: threshold, decay (0 suppress, 1 linear, 2 Gaussian), sigma, least score, 1 to select by score.
    ``unit``: proximities are summed as integers, in parts of 1 / unit. ``final`` (n,), -1 at first: the score of each
    candidate when it was selected.
    """
    threshold, decay, sigma, least, by_score = settings
    one = np.float32(1)
    for group in range(len(starts) - 1):
        alive = np.array([i for i in range(starts[group], starts[group + 1]) if scores[i] >= least])
        current, sums = scores[alive], np.zeros(len(alive), np.int64)
        if not by_score:
            for a in range(len(alive)):
                for b in range(a):
                    term = _term(columns, alive[a], alive[b], threshold, unit)
                    sums[a] += term
                    sums[b] += term
        left = np.ones(len(alive), np.bool_)
        count = len(alive)
        while count:
            best, most = -1, -np.inf
            for a in range(len(alive)):
                if not left[a]:
                    continue
                want = np.float64(current[a])
                if not by_score:
                    want = -(np.float64(sums[a]) / max(count - 1, 1)) * np.float64(one - current[a])
                if want > most or (want == most and rows[alive[a]] < rows[alive[best]]):
                    best, most = a, want
            taken = current[best]
            left[best] = False
            going = [best]
            for a in range(len(alive)):
                if not left[a]:
                    continue
                proximity = _proximity(columns, alive[best], alive[a])
                if proximity >= threshold:
                    continue
                taken = max(taken, current[a])
                current[a] *= (
                    np.exp(-((one - proximity) * (one - proximity)) / sigma) if decay == 2 else min(proximity, one)
                )
                if decay == 0 or current[a] < least:
                    left[a] = False
                    going.append(a)
            final[alive[best]] = taken
            count -= len(going)
            if not by_score:
                for a in range(len(alive)):
                    if left[a]:
                        for gone in going:
                            sums[a] -= _term(columns, alive[gone], alive[a], threshold, unit)
