"""Kernel of one round of CP-Cluster, the compiled twin of ``../cp_cluster.py``.

It runs when the candidates are CPU tensors (backend ``cpu``), and must equal the torch code of its
twin. The arguments ``columns`` (4, n) and ``starts`` (g + 1,) are those of ``overlaps.py``.
"""

import numpy as np

from postnms.ops.jit import exact, exact_inlined
from postnms.suppression.kernels.overlaps import iou_among, longest_group


@exact_inlined
def _is_stronger(scores, rows, i, j):  # pragma: no cover: compiled
    """Return whether i has a better score than j, or an equal one and the lower row."""
    return scores[i] > scores[j] or (scores[i] == scores[j] and rows[i] < rows[j])


@exact_inlined
def _draw(columns, j, friend, raised, weight, moved):  # pragma: no cover: compiled
    """Fill ``moved[:, j]`` with the mean of box j and its friend, weighted by their scores."""
    total = raised + weight
    if total > 0:
        for edge in range(4):
            drawn = columns[edge, j] * raised + columns[edge, friend] * weight
            moved[edge, j] = drawn / total


@exact_inlined
def _messages(scores, rows, iou, start, end, j, silenced, settings):  # pragma: no cover: compiled
    """Return what candidate j is told by the candidates ``start`` to ``end`` - 1 of its group.

    That is the number of its friends, the strongest of them, the candidate that lowers its score,
    and their IoU. The candidates are -1 for none. ``iou`` is that of j with all of the group.
    """
    threshold, friend_threshold, min_score, closest, _ = settings
    friends = np.float32(0)
    friend = -1
    chosen = -1
    nearness = np.float32(0)
    for i in range(start, end):
        if i == j or scores[i] < min_score:
            continue
        overlap = iou[i - start]
        # A weaker candidate can only raise the score of j, a stronger one only lower it.
        if _is_stronger(scores, rows, j, i):
            if overlap > friend_threshold:
                friends += np.float32(1)
                if friend < 0 or _is_stronger(scores, rows, i, friend):
                    friend = i
            continue
        if overlap <= threshold or silenced[j] == i:
            continue
        ahead = chosen < 0 or _is_stronger(scores, rows, i, chosen)
        # The second round chooses by IoU, the first by strength. Strength decides ties.
        if (closest and (overlap > nearness or (overlap == nearness and ahead))) or (
            not closest and ahead
        ):
            chosen = i
            nearness = overlap
    return friends, friend, chosen, nearness


@exact
def propagate(columns, starts, scores, rows, settings, silenced):  # pragma: no cover: compiled
    """Run one round of all groups, see :class:`postnms.suppression.cp_cluster.CPCluster`.

    Args:
        columns: Edges of the boxes.
        starts: Starts of the groups.
        scores: (n,) float32, scores before the round.
        rows: (n,) int64, rows of the input. They decide which of two equal scores is stronger.
        settings: ``RoundSettings`` in float32.
        silenced: (n,) int64, the position of the candidate that may not lower each score, -1 for
            none.

    Returns:
        The edges (4, n) and scores (n,) float32 after the round, and the position (n,) int64 of the
        candidate that lowered each score, -1 for none.
    """
    one = np.float32(1)
    moved = columns.copy()
    changed = scores.copy()
    suppressor = np.full(len(scores), -1, np.int64)
    iou = np.empty(longest_group(starts), np.float32)
    for group in range(len(starts) - 1):
        start, end = starts[group], starts[group + 1]
        for j in range(start, end):
            if scores[j] < settings.min_score:
                continue
            iou_among(columns, j, start, end, iou)
            friends, friend, suppressor[j], nearness = _messages(
                scores, rows, iou, start, end, j, silenced, settings
            )
            weight = scores[friend] if friend >= 0 else np.float32(0)
            raised = scores[j] + (one - scores[j]) * (friends / (friends + one)) * weight
            changed[j] = raised - raised * nearness
            if settings.move_boxes and friend >= 0:
                _draw(columns, j, friend, raised, weight, moved)
    return moved, changed, suppressor
