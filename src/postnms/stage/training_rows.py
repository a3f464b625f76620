"""The rows that the stage is trained on: members and representative boxes (paper: section 3.3).

Few boxes are left after NMS. Since every member of a cluster is a row, and not the key alone, the
supervision of the stage is not sparse.

r: rows.
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
    """One row for each box: first members, then representative boxes. All columns are detached."""

    boxes: Tensor
    """(r, 4) float32, xyxy, pixels."""
    image: Tensor
    """(r,) int64, 0..B-1."""
    labels: Tensor
    """(r,) int64, 0..K-1."""
    positive: Tensor
    """(r,) bool: whether the row's cluster is positive."""
    truths: Tensor
    """(r, 4) float32: the ground-truth box of the row's cluster. The truth of a negative row is the
    row's box itself."""
    w_cls: Tensor
    """(r,) float32: importance of the row in L_cls."""
    w_loc: Tensor
    """(r,) float32: importance of the row in L_loc, 0 for negative rows."""


def training_rows(clusters: Clusters, targets: Targets, config: StageConfig) -> TrainingRows:
    """Return the labelled and weighted rows of all clusters.

    A negative cluster on a crowd region of its class gives no rows.

    Args:
        clusters: the candidates and their clusters.
        targets: the ground truth of the batch, in the pixels of the candidates.
        config: settings of the stage. ``members`` and ``representative_rows`` choose the rows.
    """
    matches = match_clusters(clusters, targets, config.positive_iou)
    w_cls, w_loc = importance(clusters, matches, config.weighting)
    members = (
        torch.arange(len(clusters.assignment), device=clusters.keys.device)
        if config.members
        else clusters.keys
    )
    owner = clusters.assignment[members]
    boxes = clusters.candidates.boxes[members]
    w_cls = w_cls[members]
    w_loc = w_loc[members]
    if config.representative_rows:
        # The representative box (Eq. 3) is scored at inference, as s_clu. So it is a row as well,
        # with weight 1.
        ones = torch.ones_like(clusters.candidates.scores[clusters.keys])
        owner = torch.cat([owner, torch.arange(len(clusters.keys), device=owner.device)])
        boxes = torch.cat([boxes, representative_boxes(clusters, config.representative)])
        w_cls = torch.cat([w_cls, ones])
        w_loc = torch.cat([w_loc, ones])
    used = (~matches.ignored[owner]).nonzero().squeeze(1)
    owner = owner[used]
    boxes = boxes[used]
    w_cls = w_cls[used]
    w_loc = w_loc[used]
    # Every row takes the label and the truth of its cluster, even if its IoU is low.
    positive = matches.positive[owner]
    truths = boxes
    if len(targets.boxes):
        # A negative cluster may have no truth, row -1. Its box is not used.
        truths = torch.where(positive[:, None], targets.boxes[matches.truth[owner]], boxes)
    key = clusters.keys[owner]
    return TrainingRows(
        boxes=boxes,
        image=clusters.candidates.image[key],
        labels=clusters.candidates.labels[key],
        positive=positive,
        truths=truths,
        w_cls=w_cls,
        # A negative row has no object to move to, so it does not count in L_loc.
        w_loc=torch.where(positive, w_loc, 0.0),
    )
