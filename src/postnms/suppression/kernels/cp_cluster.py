"""The compiled round of CP-Cluster."""

import numpy as np

from postnms.ops.jit import exact
from postnms.suppression.kernels.overlaps import iou_among, longest_group


@exact
def propagate(
    columns, starts, scores, rows, settings, silenced, changed
):  # pragma: no cover: compiled
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
                if (closest and (overlap > nearness or (overlap == nearness and ahead))) or (
                    not closest and ahead
                ):
                    chosen, nearness = i, overlap
            one = np.float32(1)
            raised = scores[j] + (one - scores[j]) * (friends / (friends + one)) * best_friend
            changed[j] = raised - raised * nearness
            suppressor[j] = chosen
    return suppressor
