"""Candidates -> clusters, and the one box that sums a cluster up (paper: section 3.1, Eq. 3, Table 4).

n: candidates, k: clusters.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from postnms import ops
from postnms.boxes import area
from postnms.structures import Candidates, Clusters, Detections, take, top_per_image

LEAST_SHARED = 0.1
"""Share of the key's area: an intersection that is less of it would be a sliver, with deltas without bounds."""

Representative = Literal["union", "intersection", "mean", "vote"]


def cluster(candidates: Candidates, iou_threshold: float = 0.5) -> Clusters:
    """Read NMS as clustering: each kept box owns the candidates of its image and class that it suppressed."""
    keys, assignment = ops.cluster_nms(
        candidates.boxes, candidates.scores, candidates.groups, iou_threshold
    )
    return Clusters(candidates, keys, assignment)


def representative_boxes(clusters: Clusters, method: Representative = "union") -> Tensor:
    """One box a cluster: (k, 4) float32, in the order of ``clusters.keys`` (Eq. 3).

    ``union``: the smallest box around all members; ``intersection``: what all members share, or the key where that
    is less than :data:`LEAST_SHARED` of the key; ``mean``: mean of the corners; ``vote``: the same weighted by the
    scores, which must then be non-negative (a cluster with no positive score takes the plain mean).
    """
    return REPRESENTATIVES[method](clusters)


def reduce_members(
    values: Tensor, clusters: Clusters, how: Literal["amax", "amin", "sum"]
) -> Tensor:
    """Reduce a value per candidate (n, ...) over the members of each cluster -> (k, ...)."""
    rows = clusters.assignment.view(-1, *[1] * (values.ndim - 1)).expand_as(values)
    out = values.new_zeros(len(clusters.keys), *values.shape[1:])
    return out.scatter_reduce(0, rows, values, how, include_self=False)


def _union(clusters: Clusters) -> Tensor:
    boxes = clusters.candidates.boxes
    lowest = reduce_members(boxes[:, :2], clusters, "amin")
    return torch.cat([lowest, reduce_members(boxes[:, 2:], clusters, "amax")], dim=1)


def _intersection(clusters: Clusters) -> Tensor:
    boxes = clusters.candidates.boxes
    top_left = reduce_members(boxes[:, :2], clusters, "amax")
    bottom_right = reduce_members(boxes[:, 2:], clusters, "amin")
    shared, keys = torch.cat([top_left, bottom_right], dim=1), boxes[clusters.keys]
    enough = (bottom_right > top_left).all(dim=1) & (area(shared) >= LEAST_SHARED * area(keys))
    return torch.where(enough[:, None], shared, keys)


def _mean(clusters: Clusters) -> Tensor:
    return _weighted_mean(clusters, torch.ones_like(clusters.candidates.scores))


def _vote(clusters: Clusters) -> Tensor:
    scores = clusters.candidates.scores
    if len(scores) and bool((scores < 0).any()):
        raise ValueError(f"scores: expected values >= 0 for a vote, got {float(scores.min())}")
    unscored = reduce_members(scores, clusters, "sum") <= 0
    return _weighted_mean(clusters, torch.where(unscored[clusters.assignment], 1.0, scores))


def _weighted_mean(clusters: Clusters, weights: Tensor) -> Tensor:
    total = reduce_members(weights, clusters, "sum")
    share = weights / total[clusters.assignment]
    return reduce_members(clusters.candidates.boxes * share[:, None], clusters, "sum")


REPRESENTATIVES: dict[str, Callable[[Clusters], Tensor]] = {
    "union": _union,
    "intersection": _intersection,
    "mean": _mean,
    "vote": _vote,
}


def keep_keys(clusters: Clusters, max_detections: int) -> tuple[Detections, Tensor]:
    """The best keys of each image, and for each (d,) the position in ``clusters.keys`` that it comes from."""
    keys = take(clusters.candidates, clusters.keys)
    chosen = top_per_image(keys.scores, keys.image, keys.num_images, max_detections)
    best = take(keys, chosen)
    return Detections(
        best.boxes, best.scores, best.labels, best.image, best.source, best.num_images
    ), chosen


def nms_again(detections: Detections, iou_threshold: float) -> Detections:
    """Greedy NMS on detections whose boxes or scores have changed since they were suppressed."""
    columns = (
        detections.boxes,
        detections.scores,
        detections.labels,
        detections.image,
        detections.source,
    )
    candidates = Candidates(*columns, detections.num_images)
    most = max(len(detections.scores), 1)
    return keep_keys(cluster(candidates, iou_threshold), most)[0]
