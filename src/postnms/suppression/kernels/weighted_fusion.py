"""The compiled loop of Weighted Boxes Fusion."""

import numpy as np

from postnms.ops.jit import exact
from postnms.suppression.kernels.overlaps import iou_row, longest_group


@exact
def assign_fused(columns, starts, scores, threshold, owner):  # pragma: no cover: compiled
    """Fill ``owner`` (n,) by Weighted Boxes Fusion: the place of the first box of the fused box that each joins."""
    longest = longest_group(starts)
    fused, totals = np.empty((4, longest), np.float32), np.empty((4, longest), np.float32)
    weights, first = np.empty(longest, np.float32), np.empty(longest, np.int64)
    iou = np.empty(longest, np.float32)
    lefts, tops, rights, bottoms = fused[0], fused[1], fused[2], fused[3]
    for group in range(len(starts) - 1):
        count = 0
        for i in range(starts[group], starts[group + 1]):
            iou_row(
                columns[:, i], lefts[:count], tops[:count], rights[:count], bottoms[:count], iou
            )
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
                mean = (
                    totals[edge, best] / weights[best]
                    if weights[best] > 0
                    else columns[edge, first[best]]
                )
                fused[edge, best] = mean
