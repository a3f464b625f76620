"""Kernel of Weighted Boxes Fusion, the compiled twin of ``../weighted_fusion.py``.

It runs when the candidates are CPU tensors (backend ``cpu``), and must equal the torch code of its
twin. The arguments ``columns`` (4, n) and ``starts`` (g + 1,) are those of ``overlaps.py``.
"""

import numpy as np

from postnms.ops.jit import exact
from postnms.suppression.kernels.overlaps import iou_row, longest_group


@exact
def assign_fused(columns, starts, scores, threshold, owner):  # pragma: no cover: compiled
    """Fill ``owner`` with the first member of the fused box that each candidate joins.

    Args:
        columns: Edges of the boxes.
        starts: Starts of the groups.
        scores: (n,) float32, weights of the candidates in the mean, falling within each group.
        threshold: IoU with a fused box above which a candidate may join it.
        owner: (n,) int64, output, the position of that first member in the ranking.
    """
    longest = longest_group(starts)
    # The fused boxes of one group by age, with the positions of their first members in `first`.
    fused = np.empty((4, longest), np.float32)
    totals = np.empty((4, longest), np.float32)
    weights = np.empty(longest, np.float32)
    first = np.empty(longest, np.int64)
    iou = np.empty(longest, np.float32)
    lefts, tops, rights, bottoms = fused[0], fused[1], fused[2], fused[3]
    for group in range(len(starts) - 1):
        count = 0
        for i in range(starts[group], starts[group + 1]):
            iou_row(
                columns[:, i], lefts[:count], tops[:count], rights[:count], bottoms[:count], iou
            )
            best = -1
            largest = threshold
            for k in range(count):
                if iou[k] > largest:
                    best = k
                    largest = iou[k]
            if best < 0:
                best = count
                first[best] = i
                weights[best] = 0
                totals[:, best] = 0
                count += 1
            owner[i] = first[best]
            weights[best] += scores[i]
            for edge in range(4):
                totals[edge, best] += scores[i] * columns[edge, i]
                # A fused box whose weights sum to 0 stays where its first member is.
                mean = (
                    totals[edge, best] / weights[best]
                    if weights[best] > 0
                    else columns[edge, first[best]]
                )
                fused[edge, best] = mean
