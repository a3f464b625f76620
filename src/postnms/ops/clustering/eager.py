"""``cluster_nms`` in torch operations, for any device.

Candidates are sorted by falling score and taken in blocks. First the keys found so far claim what they overlap;
what is left alive is settled within the block by the fixed point of Cluster-NMS (arXiv 2005.03572): a box is kept
unless a *kept* better box of its block overlaps it, which is iterated until nothing changes. Every round settles
at least one more box in score order, so the fixed point is greedy NMS. Memory is O(block * (keys + block)).
"""

import torch
from torch import Tensor

from postnms.boxes import pairwise_iou

BLOCK = 1024


def cluster_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """See :func:`postnms.ops.cluster_nms`."""
    order = torch.argsort(scores, descending=True, stable=True)
    keys = order[:0]
    assignment = torch.zeros_like(groups)
    for block in order.split(BLOCK):
        owned, owner = _first_true(_overlaps(keys, block, boxes, groups, iou_threshold))
        assignment[block[owned]] = owner[owned]
        living = block[~owned]
        overlaps = _overlaps(living, living, boxes, groups, iou_threshold).triu(diagonal=1)
        kept = fixed_point(overlaps)
        owned, owner = _first_true(overlaps[kept])
        own = kept.cumsum(0) - 1
        assignment[living] = len(keys) + torch.where(kept, own, owner)
        keys = torch.cat([keys, living[kept]])
    return keys, assignment


def _overlaps(
    first: Tensor, second: Tensor, boxes: Tensor, groups: Tensor, iou_threshold: float
) -> Tensor:
    same_group = groups[first][:, None] == groups[second]
    return same_group & (pairwise_iou(boxes[first], boxes[second]) > iou_threshold)


def fixed_point(overlaps: Tensor) -> Tensor:
    """Which of the boxes, by falling score, greedy NMS keeps: (..., n), from who suppresses whom (..., n, n).

    ``overlaps[..., i, j]`` only for i before j.
    """
    kept = torch.ones(overlaps.shape[:-1], dtype=torch.bool, device=overlaps.device)
    while True:
        now = ~(overlaps & kept[..., None]).any(dim=-2)
        if bool((now == kept).all()):
            return kept
        kept = now


def _first_true(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """For each column: is any entry true, and the row of the first (0 if none is)."""
    if not len(matrix):
        nothing = torch.zeros(matrix.shape[1], dtype=torch.int64, device=matrix.device)
        return nothing.bool(), nothing
    return matrix.any(dim=0), matrix.to(torch.uint8).argmax(dim=0)
