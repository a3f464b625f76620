"""The clusters around keys that another runtime's NMS has kept.

n: candidates, k: keys.
"""

import torch
from torch import Tensor

from postnms.boxes import pairwise_iou
from postnms.structures import Candidates, Clusters, take

torch.library.define(
    "postnms::first_owner",
    "(Tensor boxes, Tensor groups, Tensor keys, float iou_threshold) -> Tensor",
)


@torch.library.impl("postnms::first_owner", "CompositeExplicitAutograd")
def _first_owner(boxes: Tensor, groups: Tensor, keys: Tensor, iou_threshold: float) -> Tensor:
    none = len(keys)
    is_over = pairwise_iou(boxes, boxes[keys]) > iou_threshold
    owns = is_over & (groups[:, None] == groups[keys])
    positions = torch.arange(none, device=keys.device)
    # One more column, since there may be no key.
    first = torch.where(owns, positions, none)
    first = torch.cat([first, first.new_full((len(boxes), 1), none)], dim=1).amin(dim=1)
    # A key owns itself, also without an area.
    return torch.where(first == none, -1, first).index_copy(0, keys, positions)


@torch.library.register_fake("postnms::first_owner")
def _(boxes: Tensor, groups: Tensor, keys: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty(boxes.shape[0], dtype=torch.int64, device=boxes.device)


def clusters_of_keys(candidates: Candidates, keys: Tensor, iou_threshold: float) -> Clusters:
    """Return the clusters of the keys that an NMS has kept.

    Each candidate belongs to the first key of its image and class, in the order of the scores, that
    overlaps it with IoU > ``iou_threshold``. With the keys of :func:`postnms.cluster_nms` these are
    the clusters of :func:`postnms.cluster`. What no key owns is left out: another NMS may limit the
    number of its keys, or round differently.

    Args:
        candidates: all candidates that the NMS has seen.
        keys: (k',) int64, rows of candidates, in any order, each once. Values below 0 are padding.
        iou_threshold: that of the NMS.
    """
    keys = keys[(keys >= 0).nonzero().squeeze(1)]
    # Of equal scores the lower row comes first.
    keys = torch.sort(keys, stable=True)[0]
    keys = keys[torch.sort(candidates.scores[keys], descending=True, stable=True)[1]]
    owner = torch.ops.postnms.first_owner(candidates.boxes, candidates.groups, keys, iou_threshold)
    is_owned = owner >= 0
    rows = is_owned.nonzero().squeeze(1)
    place = is_owned.long().cumsum(0) - 1
    return Clusters(take(candidates, rows), place[keys], owner[rows])
