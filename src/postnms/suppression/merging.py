"""Non-max merge, which replaces each cluster by one box around its members.

The ``cpu`` backend merges the members in ``kernels/merging.py``, and the ``triton`` backend in
``triton/merging.py``. The ``eager`` backend merges one member of every cluster at a time.

n: candidates, m: candidates that are no keys.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from postnms.boxes import paired_ios, paired_iou
from postnms.config import Fraction
from postnms.suppression.overlaps import MEASURES, arrays, columns, is_key, owners
from postnms.suppression.protocol import Kept, Ranked, Suppressor, kept_where


class NonMaxMerge(Suppressor):
    """Replace each cluster of greedy NMS by the box around its members, with the key's score.

    This is the greedy NMM of SAHI. The members of a cluster are visited by falling score. A member
    is merged if it overlaps the box merged so far by more than the threshold, not the key alone.
    That box then grows to the smallest box around both. The other members are dropped.

    SAHI clusters by an overlap of at least the threshold, and its sliced prediction has ``ios`` as
    the default. The library supervision differs: it stops at the first member that is not merged,
    and averages the scores by area.

    Example:
        >>> import torch
        >>> from postnms import Candidates
        >>> from postnms.suppression.merging import NonMaxMerge
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 6, 10], [4, 0, 16, 10]])
        >>> scores = torch.tensor([0.75, 0.5, 0.25])
        >>> zeros = torch.zeros(3, dtype=torch.int64)
        >>> candidates = Candidates(boxes, scores, zeros, zeros, torch.arange(3), num_images=1)
        >>> NonMaxMerge(iou_threshold=0.25)(candidates).boxes.tolist()
        [[0.0, 0.0, 16.0, 10.0]]
    """

    iou_threshold: Fraction = 0.5
    """Overlap in [0, 1] above which a key owns another box, and above which the box merged so far
    takes in a member, in the measure ``overlap``."""
    overlap: Literal["iou", "ios"] = "iou"
    """Measure of the overlap. ``iou``: intersection over union. ``ios``: intersection over the area
    of the smaller box."""

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the keys with the boxes around their merged members and unchanged scores."""
        owner = owners(ranked, self.iou_threshold, self.overlap)
        return kept_where(is_key(owner), self._merged(ranked, owner), ranked.scores)

    def _merged(self, ranked: Ranked, owner: Tensor) -> Tensor:
        """Return the boxes (n, 4), those of the keys replaced by the merged ones."""
        if ranked.backend == "cpu":
            return self._merged_on_cpu(ranked, owner)
        if ranked.backend == "triton":
            from postnms.suppression.triton import merging as kernels

            measure = MEASURES.index(self.overlap)
            return kernels.merge_members(columns(ranked), owner, self.iou_threshold, measure).T
        return self._merged_in_turn(ranked, owner)

    def _merged_on_cpu(self, ranked: Ranked, owner: Tensor) -> Tensor:
        """Return the boxes (n, 4), those of the keys replaced by the merged ones."""
        from postnms.suppression.kernels import merging as kernels

        edges, _ = arrays(ranked)
        merged = edges.copy()
        measure = MEASURES.index(self.overlap)
        kernels.merge_members(edges, owner.numpy(), np.float32(self.iou_threshold), measure, merged)
        return torch.from_numpy(merged.T)

    def _merged_in_turn(self, ranked: Ranked, owner: Tensor) -> Tensor:
        """Return the boxes (n, 4), those of the keys replaced by the merged ones.

        Turn i merges the i-th member of every cluster that has so many.
        """
        measure = paired_iou if self.overlap == "iou" else paired_ios
        boxes = ranked.boxes.clone()
        for members in _turns(owner):
            keys = owner[members]
            first = boxes[keys]
            second = ranked.boxes[members]
            low = torch.minimum(first[:, :2], second[:, :2])
            high = torch.maximum(first[:, 2:], second[:, 2:])
            over = measure(first, second) > self.iou_threshold
            boxes[keys] = torch.where(over[:, None], torch.cat([low, high], dim=1), first)
        return boxes


def _turns(owner: Tensor) -> tuple[Tensor, ...]:
    """Return the positions of the members: first the best one of each cluster, then the second.

    ``owner`` (n,) int64 is the position of the key of each candidate. The positions (m,) of all
    turns are those of the candidates that are no keys.
    """
    members = (~is_key(owner)).nonzero().squeeze(1)
    members = members[torch.argsort(owner[members], stable=True)]
    _, cluster, sizes = torch.unique_consecutive(
        owner[members], return_inverse=True, return_counts=True
    )
    turn = torch.arange(len(members), device=owner.device) - (sizes.cumsum(0) - sizes)[cluster]
    by_turn = torch.argsort(turn, stable=True)
    return members[by_turn].split(torch.bincount(turn).tolist())
