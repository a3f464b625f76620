"""IoU of the members of a cluster with its truth: the key, the best member, the mean.

The paper shows histograms of them in its Figure 2.

n: candidates, p: clusters that have a truth.
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
"""Number of bins of a histogram."""


@dataclass(frozen=True)
class ClusterIoUs:
    """IoUs of the members of each cluster that has a truth with this truth."""

    key: Tensor
    """(p,) in [0, 1]: IoU of the key, which is the box that NMS keeps."""
    best: Tensor
    """(p,) in [0, 1]: highest IoU of a member."""
    mean: Tensor
    """(p,) in [0, 1]: mean IoU of the members, the key included."""


def cluster_ious(clusters: Clusters, targets: Targets, boxes: Tensor | None = None) -> ClusterIoUs:
    """Return the IoUs of the clusters that have a truth, in the order of ``clusters.keys``.

    These are all clusters with a member that overlaps an object of its class, however little. The
    stage is trained to find no object in those whose best member has an IoU of at most 0.5. Truths
    follow from :func:`postnms.stage.matching.match_clusters`.

    Args:
        clusters: the candidates and their clusters.
        targets: the ground truth of the same images.
        boxes: (n, 4), boxes that take the place of the candidates, for example those to which the
            stage moved them. Only the IoUs change. Clusters and truths stay as they are. None: the
            boxes of the candidates.

    Raises:
        ValueError: ``boxes`` has another shape than the boxes of the candidates.
    """
    candidates = clusters.candidates
    moved = candidates.boxes if boxes is None else boxes
    if moved.shape != candidates.boxes.shape:
        raise ValueError(
            f"boxes: expected {tuple(candidates.boxes.shape)}, got {tuple(moved.shape)}"
        )
    matches = match_clusters(clusters, targets)
    iou, matched = matches.iou, matches.truth >= 0
    if boxes is not None and len(targets.boxes):
        # A cluster without a truth has -1. It is left out, so any object may stand in for it.
        iou = paired_iou(boxes, targets.boxes[matches.truth.clamp(min=0)[clusters.assignment]])
    members = reduce_members(torch.ones_like(iou), clusters, "sum")
    return ClusterIoUs(
        key=iou[clusters.keys][matched],
        best=reduce_members(iou, clusters, "amax")[matched],
        mean=(reduce_members(iou, clusters, "sum") / members)[matched],
    )


def concatenate_cluster_ious(parts: Sequence[ClusterIoUs]) -> ClusterIoUs:
    """Return the IoUs of several chunks of images as one. Without parts, there are no clusters."""
    columns = (
        [getattr(part, name) for part in parts] or [torch.zeros(0)]
        for name in ("key", "best", "mean")
    )
    return ClusterIoUs(*(torch.cat(column) for column in columns))


def histogram(values: Tensor) -> Tensor:
    """Count values in :data:`BINS` equal bins over [0, 1].

    A bin includes its lower bound and excludes its upper bound. The last bin includes 1.

    Args:
        values: (p,), in [0, 1].

    Returns:
        (BINS,) int64, the number of values in each bin.

    Raises:
        ValueError: a value is not in [0, 1], for example NaN.
    """
    # NaN fails both comparisons, so it counts as outside.
    outside = ~((values >= 0) & (values <= 1))
    if bool(outside.any()):
        raise ValueError(f"values: expected 0 to 1, got {float(values[outside][0])}")
    return torch.bincount((values * BINS).long().clamp(max=BINS - 1), minlength=BINS)
