"""NMS read as clustering: candidates into clusters, and what a cluster is reduced to.

This is the idea that the library is built on (paper: section 3.1). NMS keeps some boxes, the keys.
Each key owns the candidates that it suppressed, its members. A representative box sums a cluster
up (Eq. 3, Table 4).

n: candidates, k: clusters, d: detections.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from postnms import ops
from postnms.boxes import area
from postnms.checks import assert_all, trusted
from postnms.orders import top_per_image
from postnms.structures import (
    Candidates,
    Clusters,
    Detections,
    as_detections,
    take,
)

LEAST_SHARED = 0.1
"""Smallest area of an intersection that may represent a cluster, as a share of the key's area.

A smaller intersection is a degenerate box: the deltas that move it onto its object have no bound.
"""

Representative = Literal["union", "intersection", "mean", "vote"]


def cluster(candidates: Candidates, iou_threshold: float = 0.5) -> Clusters:
    """Cluster the candidates of a batch as greedy NMS does, within each image and class.

    Candidates are visited by falling score (ties: the lower row first). A candidate that no
    earlier key of its image and class overlaps with IoU > ``iou_threshold`` becomes a key. Any
    other candidate belongs to the first key, in that order, that overlaps it so.

    Example:
        >>> import torch
        >>> from postnms import Candidates, cluster
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10]])
        >>> zeros = torch.zeros(3, dtype=torch.int64)
        >>> scores = torch.tensor([0.9, 0.8, 0.7])
        >>> clusters = cluster(Candidates(boxes, scores, zeros, zeros, zeros, num_images=1))
        >>> clusters.keys.tolist(), clusters.assignment.tolist()
        ([0, 2], [0, 0, 1])
    """
    with trusted():
        keys, assignment = ops.cluster_nms(
            candidates.boxes, candidates.scores, candidates.groups, iou_threshold
        )
        return Clusters(candidates, keys, assignment)


def each_alone(candidates: Candidates) -> Clusters:
    """Return clusters of one member: every candidate is a key."""
    keys = candidates.scores.argsort(descending=True, stable=True)
    with trusted():
        return Clusters(candidates, keys, keys.argsort())


def representative_boxes(clusters: Clusters, method: Representative = "union") -> Tensor:
    """Return one box for each cluster: (k, 4) float32, in the order of ``clusters.keys`` (Eq. 3).

    Methods:
        ``union``: the smallest box around all members.
        ``intersection``: the area that all members share. The key stands in where that is less
        than :data:`LEAST_SHARED` of the key's area.
        ``mean``: the mean of the corners.
        ``vote``: the mean of the corners weighted by the scores. A cluster without a positive
        score takes the plain mean.

    Raises ValueError for any other method, and if ``vote`` meets a negative score.
    """
    if method not in get_args(Representative):
        names = ", ".join(get_args(Representative))
        raise ValueError(f"method: expected one of {names}, got {method!r}")
    return REPRESENTATIVES[method](clusters)


def keep_keys(clusters: Clusters, max_detections: int) -> tuple[Detections, Tensor]:
    """Return the result of plain NMS: the best keys of each image, with all of their columns.

    Returns:
        The detections, at most ``max_detections`` for each image.
        For each detection the position of its key in ``clusters.keys``: (d,) int64.
    """
    keys = take(clusters.candidates, clusters.keys)
    counts = None if torch.compiler.is_compiling() else clusters.keys_of_images
    chosen = top_per_image(keys.scores, keys.image, keys.num_images, max_detections, counts)
    return as_detections(take(keys, chosen)), chosen


def nms_again(detections: Detections, iou_threshold: float) -> Detections:
    """Run greedy NMS on detections whose boxes or scores have changed since the first NMS.

    The result is constant: no gradient goes through suppression.
    """
    with trusted():
        candidates = Candidates(
            detections.boxes.detach(),
            detections.scores.detach(),
            detections.labels,
            detections.image,
            detections.source,
            detections.num_images,
            detections.extra,
        )
    # The first NMS has limited the detections of each image; this one drops duplicates alone.
    no_limit = max(len(detections.scores), 1)
    return keep_keys(cluster(candidates, iou_threshold), no_limit)[0]


def reduce_members(
    values: Tensor, clusters: Clusters, how: Literal["amax", "amin", "sum"]
) -> Tensor:
    """Reduce one value for each candidate (n, ...) over the members of each cluster: (k, ...)."""
    rows = clusters.assignment.view(-1, *[1] * (values.ndim - 1)).expand_as(values)
    out = values.new_zeros(len(clusters.keys), *values.shape[1:])
    return out.scatter_reduce(0, rows, values, how, include_self=False)


def _union(clusters: Clusters) -> Tensor:
    boxes = clusters.candidates.boxes
    top_left = reduce_members(boxes[:, :2], clusters, "amin")
    bottom_right = reduce_members(boxes[:, 2:], clusters, "amax")
    return torch.cat([top_left, bottom_right], dim=1)


def _intersection(clusters: Clusters) -> Tensor:
    boxes = clusters.candidates.boxes
    top_left = reduce_members(boxes[:, :2], clusters, "amax")
    bottom_right = reduce_members(boxes[:, 2:], clusters, "amin")
    shared = torch.cat([top_left, bottom_right], dim=1)
    keys = boxes[clusters.keys]
    # The corners cross where the members share nothing, and then the area means nothing either.
    is_upright = (bottom_right > top_left).all(dim=1)
    is_large = area(shared) >= LEAST_SHARED * area(keys)
    return torch.where((is_upright & is_large)[:, None], shared, keys)


def _mean(clusters: Clusters) -> Tensor:
    return _weighted_mean(clusters, torch.ones_like(clusters.candidates.scores))


def _vote(clusters: Clusters) -> Tensor:
    scores = clusters.candidates.scores
    if torch.compiler.is_compiling():
        assert_all(scores >= 0, "scores: expected values >= 0 for a vote")
    elif len(scores) and bool((scores < 0).any()):
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
