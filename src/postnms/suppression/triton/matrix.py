"""Triton kernels of Fast NMS and Matrix NMS, the twins of ``../matrix.py``.

One program takes the maximum or the minimum over all candidates ahead of one candidate, so no
matrix is stored. The results equal those of the kernels of the CPU to the last bit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from postnms.ops.triton_boxes import corners, iou
from postnms.suppression.triton import blocks
from postnms.suppression.triton.blocks import launch


def most_overlapped(columns: Tensor, starts: Tensor, group: Tensor) -> Tensor:
    """Return the largest IoU (n,) of each candidate with a candidate ahead of it in its group.

    It is 0 for the first candidate of a group. The arguments are those of ``blocks.py``.
    """
    most = torch.empty_like(columns[0])
    count = len(group)
    launch(_most_overlapped, count, columns, starts, group, most, count, block=blocks.BLOCK)
    return most


def matrix_decay(columns: Tensor, starts: Tensor, group: Tensor, *, gaussian: bool) -> Tensor:
    """Return for each candidate j a minimum (n,) over all candidates i ahead of it in its group.

    ``most`` is that of :func:`most_overlapped`. Linear: the minimum of (1 - IoU(i, j)) / (1 -
    most[i]), which starts at 1. Gaussian: the minimum of the exponent most[i]^2 - IoU(i, j)^2,
    without the factor sigma, which starts at 0.
    """
    most = most_overlapped(columns, starts, group)
    decay = torch.empty_like(most)
    given = (columns, starts, group, most, decay, len(group))
    launch(_decay, len(group), *given, gaussian=gaussian, block=blocks.BLOCK)
    return decay


@triton.jit(do_not_specialize=["n"])
def _most_overlapped(columns, starts, group, most, n, block: tl.constexpr):
    """Write the largest IoU of one candidate."""
    place = tl.program_id(0).to(tl.int64)
    box = corners(columns, n, place, place < n)
    largest = tl.zeros([block], tl.float32)
    for begin in range(tl.load(starts + tl.load(group + place)), place, block):
        ahead = begin + tl.arange(0, block)
        largest = tl.maximum(largest, iou(box, corners(columns, n, ahead, ahead < place)))
    tl.store(most + place, tl.max(largest))


@triton.jit(do_not_specialize=["n"])
def _decay(columns, starts, group, most, decay, n, gaussian: tl.constexpr, block: tl.constexpr):
    """Write the minimum of one candidate."""
    place = tl.program_id(0).to(tl.int64)
    box = corners(columns, n, place, place < n)
    least = tl.full([block], 0.0 if gaussian else 1.0, tl.float32)
    for begin in range(tl.load(starts + tl.load(group + place)), place, block):
        ahead = begin + tl.arange(0, block)
        overlap = iou(box, corners(columns, n, ahead, ahead < place))
        worst = tl.load(most + ahead, mask=ahead < place, other=0)
        if gaussian:
            value = worst * worst - overlap * overlap
        else:
            # worst == 1: the candidate ahead equals a better one, which applies the same decay
            # already. It is skipped, to avoid a division by 0.
            divisor = tl.where(worst < 1, 1 - worst, 1)
            value = tl.where(worst < 1, tl.div_rn(1 - overlap, divisor), 1)
        least = tl.where(ahead < place, tl.minimum(least, value), least)
    tl.store(decay + place, tl.min(least))
