"""``cluster_nms`` in torch operations, for any device. It runs on CUDA if Triton is missing.

Candidates are sorted by falling score and taken in blocks of ``BLOCK``. First, the keys of the
earlier blocks claim the candidates that they overlap. The rest of the block is then settled by the
fixed point of Cluster-NMS (arXiv 2005.03572): a box is kept unless a *kept* better box of its block
overlaps it, and this rule is applied until nothing changes. Every round settles at least one more
box in the order of the scores, so the fixed point is greedy NMS. The peak memory is
O(BLOCK * (k + BLOCK)).

This backend has never run on a GPU.

n: candidates, k: keys.
"""

import torch
from torch import Tensor

from postnms.boxes import pairwise_iou

BLOCK = 1024
"""Number of candidates that are settled together."""


def cluster_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """Return keys and assignment as :func:`postnms.ops.cluster_nms` defines them."""
    order = torch.argsort(scores, descending=True, stable=True)
    keys = order[:0]
    assignment = torch.zeros_like(groups)
    for block in order.split(BLOCK):
        # Keys of earlier blocks are better than every candidate of this one, so they come first.
        owned, owner = _first_true(_overlaps(keys, block, boxes, groups, iou_threshold))
        assignment[block[owned]] = owner[owned]
        living = block[~owned]
        # Above the diagonal: only a better box suppresses, and no box suppresses itself.
        overlaps = _overlaps(living, living, boxes, groups, iou_threshold).triu(diagonal=1)
        kept = fixed_point(overlaps)
        owned, owner = _first_true(overlaps[kept])
        number = kept.cumsum(0) - 1
        assignment[living] = len(keys) + torch.where(kept, number, owner)
        keys = torch.cat([keys, living[kept]])
    return keys, assignment


def _overlaps(
    first: Tensor, second: Tensor, boxes: Tensor, groups: Tensor, iou_threshold: float
) -> Tensor:
    """Tell which pairs of candidates are of one group and have IoU > ``iou_threshold``.

    ``first`` (a,) and ``second`` (b,) are candidate indices. The result is (a, b) bool.
    """
    same_group = groups[first][:, None] == groups[second]
    return same_group & (pairwise_iou(boxes[first], boxes[second]) > iou_threshold)


def fixed_point(overlaps: Tensor) -> Tensor:
    """Return which boxes greedy NMS keeps: (..., n) bool.

    ``overlaps`` (..., n, n) bool: entry [..., i, j] tells whether box i suppresses box j if box i
    is kept. The boxes are ordered by falling score, and an entry is true only for i before j.
    """
    kept = torch.ones(overlaps.shape[:-1], dtype=torch.bool, device=overlaps.device)
    while True:
        still_kept = ~(overlaps & kept[..., None]).any(dim=-2)
        if bool((still_kept == kept).all()):
            return kept
        kept = still_kept


def _first_true(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Find the first true entry of each column of ``matrix`` (a, b) bool.

    Returns (b,) bool, whether there is one, and (b,) int64, its row, or 0 if there is none.
    """
    if not len(matrix):
        nothing = torch.zeros(matrix.shape[1], dtype=torch.int64, device=matrix.device)
        return nothing.bool(), nothing
    return matrix.any(dim=0), matrix.to(torch.uint8).argmax(dim=0)
