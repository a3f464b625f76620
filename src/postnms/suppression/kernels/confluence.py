"""The compiled rounds of Confluence."""

import numpy as np

from postnms.ops.jit import exact, exact_inlined


@exact_inlined
def _proximity(columns, i, j):  # pragma: no cover: compiled
    total = np.float32(0)
    for axis in range(2):
        extent = max(columns[axis + 2, i], columns[axis + 2, j]) - min(
            columns[axis, i], columns[axis, j]
        )
        moved = abs(columns[axis, i] - columns[axis, j]) + abs(
            columns[axis + 2, i] - columns[axis + 2, j]
        )
        if extent > 0:
            total += moved / extent
    return total


@exact_inlined
def _term(columns, i, j, threshold, unit):  # pragma: no cover: compiled
    proximity = _proximity(columns, i, j)
    return np.int64(
        np.float64(min(proximity, np.float32(1)) if proximity < threshold else np.float32(1)) * unit
    )


@exact
def select_by_confluence(
    columns, starts, scores, rows, settings, unit, final
):  # pragma: no cover: compiled
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
                    np.exp(-((one - proximity) * (one - proximity)) / sigma)
                    if decay == 2
                    else min(proximity, one)
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
