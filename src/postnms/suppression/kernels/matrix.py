"""Compiled loops of Fast NMS and Matrix NMS."""

import numpy as np

from postnms.ops.jit import exact
from postnms.suppression.kernels.overlaps import iou_among, longest_group


@exact
def most_overlapped(columns, starts, most):  # pragma: no cover: compiled
    """Raise ``most`` (n,) to the largest IoU of each candidate with one ranked ahead of it in its group."""
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
    """Lower ``decay`` (n,) to the least f(IoU with i) / f(most of i) over the i ahead; ``most``: zeros at first.

    Gaussian: what is minimised is the exponent, most of i squared less the IoU squared.
    """
    one = np.float32(1)
    iou = np.empty(longest_group(starts), np.float32)
    for group in range(len(starts) - 1):
        end = starts[group + 1]
        for i in range(starts[group], end):
            iou_among(columns, i, i + 1, end, iou)
            worst = most[i]  # final: all ahead of i have been seen
            behind, least = most[i + 1 : end], decay[i + 1 : end]
            for j in range(len(behind)):
                behind[j] = max(behind[j], iou[j])
            if gaussian:
                for j in range(len(behind)):
                    least[j] = min(least[j], worst * worst - iou[j] * iou[j])
            elif (
                worst < one
            ):  # else i is a copy of one ahead, which does the same to them undivided
                for j in range(len(behind)):
                    least[j] = min(least[j], (one - iou[j]) / (one - worst))
