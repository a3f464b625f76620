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


@exact
def propagate(
    columns, starts, scores, rows, settings, silenced, changed
):  # pragma: no cover: compiled
    """Run one round of all groups, see :class:`postnms.suppression.cp_cluster.CPCluster`.

    Args:
        columns: Edges of the boxes.
        starts: Starts of the groups.
        scores: (n,) float32, scores before the round.
        rows: (n,) int64, rows of the input. They decide which of two equal scores is stronger.
        settings: ``RoundSettings`` in float32.
        silenced: (n,) int64, the position of the candidate that lowered each score in the round
            before, -1 for none.
        changed: (n,) float32, output, scores after the round.

    Returns:
        (n,) int64, the position of the candidate that lowered each score in this round, -1 for
        none.
    """
    threshold, friend_threshold, min_score, closest = settings
    suppressor = np.full(len(scores), -1, np.int64)
    iou = np.empty(longest_group(starts), np.float32)
    for group in range(len(starts) - 1):
        for j in range(starts[group], starts[group + 1]):
            changed[j] = scores[j]
            if scores[j] < min_score:
                continue
            iou_among(columns, j, starts[group], starts[group + 1], iou)
            friends = np.float32(0)
            best_friend = np.float32(0)
            chosen = -1
            nearness = np.float32(0)
            for i in range(starts[group], starts[group + 1]):
                if i == j or scores[i] < min_score:
                    continue
                overlap = iou[i - starts[group]]
                # A weaker candidate can only raise the score of j, a stronger one only lower it.
                if _is_stronger(scores, rows, j, i):
                    if overlap > friend_threshold:
                        friends += np.float32(1)
                        best_friend = max(best_friend, scores[i])
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
            one = np.float32(1)
            raised = scores[j] + (one - scores[j]) * (friends / (friends + one)) * best_friend
            changed[j] = raised - raised * nearness
            suppressor[j] = chosen
    return suppressor
