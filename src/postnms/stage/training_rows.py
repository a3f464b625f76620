"""The rows that the stage is trained on: members of clusters and their representative boxes (paper: section 3.3).

n: candidates, k: clusters, r: rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from postnms.clustering import representative_boxes
from postnms.stage.config import StageConfig
from postnms.stage.losses import importance
from postnms.stage.matching import match_clusters
from postnms.structures import Clusters, Targets


@dataclass(frozen=True)
class TrainingRows:
    """One row a box; members first, then representative boxes. All columns are constants of the graph."""

    boxes: Tensor
    """(r, 4) float32."""
    image: Tensor
    """(r,) int64."""
    labels: Tensor
    """(r,) int64."""
    positive: Tensor
    """(r,) bool: the label of the row's cluster."""
    truths: Tensor
    """(r, 4) float32: the ground-truth box of the row's cluster; the row's own box if negative."""
    w_cls: Tensor
    """(r,) float32."""
    w_loc: Tensor
    """(r,) float32, 0 for negative rows."""


def training_rows(clusters: Clusters, targets: Targets, config: StageConfig) -> TrainingRows:
    """Label and weigh the rows of all clusters; clusters on crowd regions give none."""
    matches = match_clusters(clusters, targets, config.positive_iou)
    w_cls, w_loc = importance(clusters, matches, config.weighting)
    members = (
        torch.arange(len(clusters.assignment), device=clusters.keys.device)
        if config.members
        else clusters.keys
    )
    owner = clusters.assignment[members]
    boxes, w_cls, w_loc = clusters.candidates.boxes[members], w_cls[members], w_loc[members]
    if config.representative_rows:
        whole = torch.ones_like(clusters.candidates.scores[clusters.keys])
        owner = torch.cat([owner, torch.arange(len(clusters.keys), device=owner.device)])
        boxes = torch.cat([boxes, representative_boxes(clusters, config.representative)])
        w_cls, w_loc = torch.cat([w_cls, whole]), torch.cat([w_loc, whole])
    used = ~matches.ignored[owner]
    owner, boxes, w_cls, w_loc = owner[used], boxes[used], w_cls[used], w_loc[used]
    positive = matches.positive[owner]
    truths = boxes.clone()
    truths[positive] = targets.boxes[matches.truth[owner[positive]]]
    key = clusters.keys[owner]
    return TrainingRows(
        boxes=boxes,
        image=clusters.candidates.image[key],
        labels=clusters.candidates.labels[key],
        positive=positive,
        truths=truths,
        w_cls=w_cls,
        w_loc=torch.where(positive, w_loc, 0.0),
    )
