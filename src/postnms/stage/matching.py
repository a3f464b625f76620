"""Clusters against ground truth: the label and the truth of clusters and of their members.

In the paper a whole cluster has one label and one truth (section 3.3).

n: candidates, k: clusters, m: ground-truth objects.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from postnms.boxes import area, intersection, pairwise_iou
from postnms.clustering import each_alone, reduce_members
from postnms.structures import Candidates, Clusters, Targets

CROWD_SHARE = 0.5
"""A negative cluster is ignored if more than this share of its key's area lies inside a crowd
region of its class."""

MemberLabels = Literal["cluster", "own"]
"""Whose label and truth a member has: those of its cluster, as in the paper, or its own."""


@dataclass(frozen=True)
class Matches:
    """The label and the truth that each cluster is trained with."""

    positive: Tensor
    """(k,) bool: whether an object of the cluster's class is there."""
    ignored: Tensor
    """(k,) bool: the cluster is negative, but its key lies on a crowd region of its class. It gives
    no training rows."""
    truth: Tensor
    """(k,) int64: row of the cluster's truth in ``targets``. A negative cluster has one too. -1: no
    member overlaps an object of its class."""
    iou: Tensor
    """(n,) float32: IoU of each candidate with the truth of its cluster, 0 without a truth."""


def match_clusters(clusters: Clusters, targets: Targets, iou_threshold: float = 0.5) -> Matches:
    """Give each cluster a label and a truth.

    The truth is the object of the same image and class that attains the best IoU with a member
    (ties: the lower row). The cluster is positive if that IoU is over the threshold. An IoU of
    exactly the threshold is not enough. Crowd regions are never a truth.

    Args:
        clusters: the candidates and their clusters.
        targets: the ground truth of the batch, in the pixels of the candidates.
        iou_threshold: in [0, 1].
    """
    candidates = clusters.candidates
    if not len(targets.labels) or not len(clusters.keys):
        return _no_match(clusters)
    comparable = _same_image_and_class(candidates, targets)
    iou = torch.where(
        comparable & ~targets.crowd, pairwise_iou(candidates.boxes, targets.boxes), 0.0
    )
    # A cluster is as close to an object as its best member. One good member makes it positive,
    # even if its key alone would be a false positive.
    best_of_truth = reduce_members(iou, clusters, "amax")  # (k, m)
    best = best_of_truth.max(dim=1).values
    truth = best_of_truth.argmax(dim=1)  # Among equal values this is the lowest row.
    positive = best > iou_threshold
    # The ground truth does not tell whether a box on a crowd region is right.
    on_crowd = _crowd_share(candidates, targets, comparable)[clusters.keys] > CROWD_SHARE
    return Matches(
        positive=positive,
        ignored=on_crowd & ~positive,
        truth=torch.where(best > 0, truth, -1),
        # All members are compared with the one truth of their cluster, not each with its nearest.
        iou=iou.gather(1, truth[clusters.assignment, None]).squeeze(1),
    )


@dataclass(frozen=True)
class MemberMatches:
    """The label and the truth that each candidate is trained with."""

    positive: Tensor
    """(n,) bool: whether the candidate is a positive row."""
    ignored: Tensor
    """(n,) bool: the candidate gives no training row, because it lies on a crowd region."""
    truth: Tensor
    """(n,) int64: row of its truth in ``targets``. A negative candidate may have -1."""
    iou: Tensor
    """(n,) float32: its IoU with this truth, 0 without a truth."""


def match_members(
    clusters: Clusters,
    targets: Targets,
    matches: Matches,
    labels: MemberLabels = "cluster",
    iou_threshold: float = 0.5,
) -> MemberMatches:
    """Give each candidate a label and a truth.

    Args:
        clusters: the candidates and their clusters.
        targets: the ground truth of the batch, in the pixels of the candidates.
        matches: those of the clusters.
        labels: ``cluster``: the label and the truth of the cluster, even if the IoU of the
            candidate is low. ``own``: what :func:`match_clusters` gives the candidate if it is
            alone in its cluster.
        iou_threshold: of ``own``, in [0, 1].
    """
    owner = clusters.assignment
    if labels == "own":
        alone = each_alone(clusters.candidates)
        owner, matches = alone.assignment, match_clusters(alone, targets, iou_threshold)
    return MemberMatches(
        matches.positive[owner], matches.ignored[owner], matches.truth[owner], matches.iou
    )


def _same_image_and_class(candidates: Candidates, targets: Targets) -> Tensor:
    """Return whether candidate and object have the same image and label: (n, m) bool."""
    same_image = candidates.image[:, None] == targets.image
    return same_image & (candidates.labels[:, None] == targets.labels)


def _crowd_share(candidates: Candidates, targets: Targets, comparable: Tensor) -> Tensor:
    """Return the largest share of each box inside one crowd region of its image and class: (n,)."""
    shared = intersection(candidates.boxes[:, None], targets.boxes[None])
    # A degenerate box has no area. Its share is 0, not 0 / 0.
    share = shared / area(candidates.boxes).clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    return torch.where(comparable & targets.crowd, share, 0.0).amax(dim=1)


def _no_match(clusters: Clusters) -> Matches:
    """Return the matches of a batch without objects or without clusters: all are negative."""
    nowhere = torch.zeros_like(clusters.keys, dtype=torch.bool)
    return Matches(
        nowhere,
        nowhere,
        torch.full_like(clusters.keys, -1),
        torch.zeros_like(clusters.candidates.scores),
    )
