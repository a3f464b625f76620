"""Clusters against ground truth: one label and one truth for a whole cluster (paper: section 3.3).

n: candidates, k: clusters, m: ground-truth objects.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from postnms.boxes import area, intersection, pairwise_iou
from postnms.clustering import reduce_members
from postnms.structures import Candidates, Clusters, Targets

CROWD_SHARE = 0.5
"""A negative cluster with more than this share of its key inside a crowd region of its class is ignored."""


@dataclass(frozen=True)
class Matches:
    """What each cluster is trained towards."""

    positive: Tensor
    """(k,) bool: an object of the cluster's class is there."""
    ignored: Tensor
    """(k,) bool: negative, but on a crowd region of its class; trained on in no way."""
    truth: Tensor
    """(k,) int64: row of ``targets`` that the cluster stands for; the best one even if it is negative, -1 if
    the image has no object of the class."""
    iou: Tensor
    """(n,) float32: IoU of each candidate with the truth of its cluster, 0 where there is none."""


def match_clusters(clusters: Clusters, targets: Targets, iou_threshold: float = 0.5) -> Matches:
    """Label clusters: positive if the best IoU of a member with a truth of its class is OVER the threshold.

    The truth is the one that attains that best IoU (ties: the lower row). Crowd regions are no truths.
    """
    candidates = clusters.candidates
    if not len(targets.labels) or not len(clusters.keys):
        return _no_match(clusters)
    comparable = _same_image_and_class(candidates, targets)
    iou = torch.where(
        comparable & ~targets.crowd, pairwise_iou(candidates.boxes, targets.boxes), 0.0
    )
    best_of_truth = reduce_members(iou, clusters, "amax")  # (k, m)
    best, truth = best_of_truth.max(dim=1).values, best_of_truth.argmax(dim=1)
    positive = best > iou_threshold
    on_crowd = _crowd_share(candidates, targets, comparable)[clusters.keys] > CROWD_SHARE
    return Matches(
        positive=positive,
        ignored=on_crowd & ~positive,
        truth=torch.where(best > 0, truth, -1),
        iou=iou.gather(1, truth[clusters.assignment, None]).squeeze(1),
    )


def _same_image_and_class(candidates: Candidates, targets: Targets) -> Tensor:
    same_image = candidates.image[:, None] == targets.image
    return same_image & (candidates.labels[:, None] == targets.labels)


def _crowd_share(candidates: Candidates, targets: Targets, comparable: Tensor) -> Tensor:
    shared = intersection(candidates.boxes[:, None], targets.boxes[None])
    share = shared / area(candidates.boxes).clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    return torch.where(comparable & targets.crowd, share, 0.0).amax(dim=1)


def _no_match(clusters: Clusters) -> Matches:
    nowhere = torch.zeros_like(clusters.keys, dtype=torch.bool)
    return Matches(
        nowhere,
        nowhere,
        torch.full_like(clusters.keys, -1),
        torch.zeros_like(clusters.candidates.scores),
    )
