"""Triton kernel of non-max merge, the twin of ``../merging.py``.

One program merges the members of one key, one after another, with the box merged so far in its
registers. The result equals that of the kernel of the CPU to the last bit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from postnms.ops.triton_boxes import corners, ios, iou
from postnms.suppression.triton.blocks import launch

IOS = tl.constexpr(1)


def merge_members(columns: Tensor, owner: Tensor, threshold: float, measure: int) -> Tensor:
    """Return the edges (4, n), those of the keys grown around the members that overlap them.

    Args:
        columns: Edges of the boxes, see ``blocks.py``.
        owner: (n,) int64, the position of the key that owns each candidate. The members of a key
            rank behind it, by falling score.
        threshold: Overlap above which a member is merged.
        measure: Position of the measure in ``MEASURES`` of ``../overlaps.py``, 0 or 1.
    """
    # Cluster after cluster, in each the key and then its members in the order of the ranking.
    order = torch.argsort(owner, stable=True)
    merged = columns.clone()
    count = len(owner)
    launch(_merge, count, columns, order, owner[order], merged, threshold, count, measure=measure)
    return merged


@triton.jit(do_not_specialize=["n"])
def _merge(columns, order, keys, merged, threshold, n, measure: tl.constexpr):
    """Merge the cluster that begins at one entry of ``order``, if one does."""
    entry = tl.program_id(0).to(tl.int64)
    key = tl.load(keys + entry)
    if key == tl.load(order + entry):
        left, top, right, bottom = corners(columns, n, key, key < n)
        entry += 1
        while tl.load(keys + entry, mask=entry < n, other=-1) == key:
            box = corners(columns, n, tl.load(order + entry), entry < n)
            grown = left, top, right, bottom
            overlap = ios(grown, box) if measure == IOS else iou(grown, box)
            joins = overlap > threshold
            left = tl.where(joins, tl.minimum(left, box[0]), left)
            top = tl.where(joins, tl.minimum(top, box[1]), top)
            right = tl.where(joins, tl.maximum(right, box[2]), right)
            bottom = tl.where(joins, tl.maximum(bottom, box[3]), bottom)
            entry += 1
        stride = tl.cast(n, tl.int64)
        tl.store(merged + key, left)
        tl.store(merged + key + stride, top)
        tl.store(merged + key + 2 * stride, right)
        tl.store(merged + key + 3 * stride, bottom)
