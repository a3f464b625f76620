"""Kernel of the rounds of Confluence, the compiled twin of ``../confluence.py``.

It runs when the candidates are CPU tensors (backend ``cpu``), and must equal the torch code of its
twin. The arguments ``columns`` (4, n) and ``starts`` (g + 1,) are those of ``overlaps.py``.

Within a group, ``alive`` (m,) holds the positions of the candidates that take part. All other work
arrays are (m,) too, and an entry of them belongs to the same entry of ``alive``.
"""

import numpy as np

from postnms.ops.jit import exact, exact_inlined


@exact_inlined
def _proximity(columns, i, j):  # pragma: no cover: compiled
    """Return the proximity of boxes i and j, in [0, 4]. An axis without an extent adds 0."""
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
    """Return what candidates i and j add to the sums of each other, an integer up to ``unit``."""
    proximity = _proximity(columns, i, j)
    return np.int64(
        np.float64(min(proximity, np.float32(1)) if proximity < threshold else np.float32(1)) * unit
    )


@exact_inlined
def _add_terms(columns, alive, threshold, unit, sums):  # pragma: no cover: compiled
    """Add to ``sums`` the terms of each candidate with all others."""
    for a in range(len(alive)):
        for b in range(a):
            term = _term(columns, alive[a], alive[b], threshold, unit)
            sums[a] += term
            sums[b] += term


@exact_inlined
def _select(alive, left, current, sums, rows, count, by_score):  # pragma: no cover: compiled
    """Return the best of the ``count`` entries that are left, of equal ones the lower row."""
    one = np.float32(1)
    best = -1
    top = -np.inf
    for a in range(len(alive)):
        if not left[a]:
            continue
        # As in the torch code, the products are in float64, so that ties are the same.
        merit = np.float64(current[a])
        if not by_score:
            merit = -(np.float64(sums[a]) / max(count - 1, 1)) * np.float64(one - current[a])
        if merit > top or (merit == top and rows[alive[a]] < rows[alive[best]]):
            best = a
            top = merit
    return best


@exact_inlined
def _decay(columns, alive, left, current, best, settings, going):  # pragma: no cover: compiled
    """Lower the scores of the entries close to the selected one, and drop low ones.

    Dropped entries are cleared in ``left`` and appended to ``going``. Returns the best score of the
    selected entry and the entries close to it, from before the decay.
    """
    threshold, decay, sigma, min_score, _ = settings
    one = np.float32(1)
    taken = current[best]
    for a in range(len(alive)):
        if not left[a]:
            continue
        proximity = _proximity(columns, alive[best], alive[a])
        if proximity >= threshold:
            continue
        # The selected candidate gets this score as it is before the decay.
        taken = max(taken, current[a])
        current[a] *= (
            np.exp(-((one - proximity) * (one - proximity)) / sigma)
            if decay == 2
            else min(proximity, one)
        )
        if decay == 0 or current[a] < min_score:
            left[a] = False
            going.append(a)
    return taken


@exact
def select_by_confluence(
    columns, starts, scores, rows, settings, unit, final
):  # pragma: no cover: compiled
    """Run all rounds of all groups, see :class:`postnms.suppression.confluence.Confluence`.

    Args:
        columns: Edges of the boxes.
        starts: Starts of the groups.
        scores: (n,) float32, scores before the first round.
        rows: (n,) int64, rows of the input. They decide ties.
        settings: ``ConfluenceSettings`` in float32. The decay is 0 suppress, 1 linear, 2 Gaussian.
        unit: Proximities are summed as integers, in units of 1 / ``unit``.
        final: (n,) float32, output, the score of each candidate when it was selected. All entries
            must be -1 on entry, and stay so for candidates that are never selected.
    """
    threshold = settings.threshold
    min_score = settings.min_score
    by_score = settings.by_score
    for group in range(len(starts) - 1):
        alive = np.array(
            [i for i in range(starts[group], starts[group + 1]) if scores[i] >= min_score]
        )
        current = scores[alive]
        sums = np.zeros(len(alive), np.int64)
        if not by_score:
            _add_terms(columns, alive, threshold, unit, sums)
        left = np.ones(len(alive), np.bool_)
        count = len(alive)
        while count:
            best = _select(alive, left, current, sums, rows, count, by_score)
            left[best] = False
            going = [best]
            final[alive[best]] = _decay(columns, alive, left, current, best, settings, going)
            count -= len(going)
            # Integer sums can be corrected without a rounding error, instead of summed anew.
            if not by_score:
                for a in range(len(alive)):
                    if left[a]:
                        for gone in going:
                            sums[a] -= _term(columns, alive[gone], alive[a], threshold, unit)
