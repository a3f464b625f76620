"""How well the members of a cluster are placed: its key, its best member, their mean (paper: Figure 2).

n: candidates, p: positive clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from postnms.boxes import paired_iou
from postnms.clustering import reduce_members
from postnms.stage.matching import match_clusters
from postnms.structures import Clusters, Targets

BINS = 20


@dataclass(frozen=True)
class ClusterIoUs:
    """IoU with the truth of its cluster, for each positive cluster."""

    key: Tensor
    """(p,) [0, 1]: of the key, what NMS keeps."""
    best: Tensor
    """(p,) [0, 1]: of the member that has the highest."""
    mean: Tensor
    """(p,) [0, 1]: mean over the members."""


def cluster_ious(clusters: Clusters, targets: Targets, boxes: Tensor | None = None) -> ClusterIoUs:
    """Positive clusters are those of :func:`postnms.stage.matching.match_clusters`, in the order of ``clusters.keys``.

    ``boxes`` (n, 4): where something has moved the candidates to; clusters, which of them are positive and their
    truths stay as they are, only the IoUs are taken with these.
    """
    candidates = clusters.candidates
    moved = candidates.boxes if boxes is None else boxes
    if moved.shape != candidates.boxes.shape:
        raise ValueError(
            f"boxes: expected {tuple(candidates.boxes.shape)}, got {tuple(moved.shape)}"
        )
    matches = match_clusters(clusters, targets)
    iou = matches.iou
    if boxes is not None and len(targets.boxes):
        iou = paired_iou(boxes, targets.boxes[matches.truth.clamp(min=0)[clusters.assignment]])
    members = reduce_members(torch.ones_like(iou), clusters, "sum")
    return ClusterIoUs(
        key=iou[clusters.keys][matches.positive],
        best=reduce_members(iou, clusters, "amax")[matches.positive],
        mean=(reduce_members(iou, clusters, "sum") / members)[matches.positive],
    )


def concatenate(parts: Sequence[ClusterIoUs]) -> ClusterIoUs:
    """One after the other, as of chunks of images; no parts: no clusters."""
    columns = (
        [getattr(part, name) for part in parts] or [torch.zeros(0)]
        for name in ("key", "best", "mean")
    )
    return ClusterIoUs(*(torch.cat(column) for column in columns))


def histogram(values: Tensor) -> Tensor:
    """Counts (20,) int64 of values in [0, 1], by equal bins with their lower bound; 1 is in the last.

    Raises ValueError for a value that is not in [0, 1].
    """
    outside = ~((values >= 0) & (values <= 1))
    if bool(outside.any()):
        raise ValueError(f"values: expected 0 to 1, got {float(values[outside][0])}")
    return torch.bincount((values * BINS).long().clamp(max=BINS - 1), minlength=BINS)
