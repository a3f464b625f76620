"""Kernels of Fast NMS and Matrix NMS, the compiled twins of ``../matrix.py``.

They run when the candidates are CPU tensors (backend ``cpu``), and must equal the torch code of
their twin. The arguments ``columns`` (4, n) and ``starts`` (g + 1,) are those of ``overlaps.py``.
Both kernels visit the candidates of a group in the order of the ranking, and compute the IoU with
the candidates behind one row at a time, so no matrix is stored.
"""

import numpy as np

from postnms.ops.jit import exact
from postnms.suppression.kernels.overlaps import iou_among, longest_group


@exact
def most_overlapped(columns, starts, most):  # pragma: no cover: compiled
    """Raise ``most`` (n,) to the largest IoU of each candidate with a candidate ahead of it.

    Only candidates of the same group count. ``most`` must be zero on entry.
    """
    iou = np.empty(longest_group(starts), np.float32)
    for group in range(len(starts) - 1):
        end = starts[group + 1]
        for i in range(starts[group], end):
            iou_among(columns, i, i + 1, end, iou)
            worse = most[i + 1 : end]
            for j in range(len(worse)):
                worse[j] = max(worse[j], iou[j])


@exact
def matrix_decay(columns, starts, gaussian, most, decay):  # pragma: no cover: compiled
    """Lower ``decay[j]`` of each candidate j to a minimum over all candidates i ahead in its group.

    Linear (``gaussian`` is False): the minimum of (1 - IoU(i, j)) / (1 - most[i]). ``decay`` must
    be 1 on entry. Gaussian: the minimum of the exponent most[i]^2 - IoU(i, j)^2, without the factor
    sigma. ``decay`` must be 0 on entry. ``most`` (n,) must be zero on entry, and holds the largest
    IoU with a candidate ahead at the end.
    """
    one = np.float32(1)
    iou = np.empty(longest_group(starts), np.float32)
    for group in range(len(starts) - 1):
        end = starts[group + 1]
        for i in range(starts[group], end):
            iou_among(columns, i, i + 1, end, iou)
            # `most[i]` is final here, since all candidates ahead of i have been visited.
            worst = most[i]
            behind = most[i + 1 : end]
            least = decay[i + 1 : end]
            for j in range(len(behind)):
                behind[j] = max(behind[j], iou[j])
            if gaussian:
                for j in range(len(behind)):
                    least[j] = min(least[j], worst * worst - iou[j] * iou[j])
            # worst == 1: i equals a better box, which has applied the same decay already. Skip i,
            # to avoid a division by 0.
            elif worst < one:
                for j in range(len(behind)):
                    least[j] = min(least[j], (one - iou[j]) / (one - worst))
