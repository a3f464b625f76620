"""The rows that the stage is trained on: members and representative boxes (paper: section 3.3).

Few boxes are left after NMS. Since every member of a cluster is a row, and not the key alone, the
supervision of the stage is not sparse.

r: rows, p: positive rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from postnms.clustering import each_alone, representative_boxes
from postnms.stage.config import StageConfig
from postnms.stage.losses import importance
from postnms.stage.matching import match_clusters
from postnms.structures import Clusters, Targets


@dataclass(frozen=True)
class TrainingRows:
    """Boxes with what the stage learns from each: positive rows first. All columns are detached.

    A representative box that equals the key of its cluster, as that of a cluster with one member
    does, has no row of its own. The row of the key then carries the weights of both. The losses are
    the same, and the networks look at the box once.
    """

    boxes: Tensor
    """(r, 4) float32, xyxy, pixels."""
    image: Tensor
    """(r,) int64, 0..B-1."""
    labels: Tensor
    """(r,) int64, 0..K-1."""
    positive: Tensor
    """(r,) bool: whether the row's cluster is positive. True in the first p rows."""
    w_cls: Tensor
    """(r,) float32: importance of the row in L_cls."""
    truths: Tensor
    """(p, 4) float32: the ground-truth box of the cluster of each positive row."""
    w_loc: Tensor
    """(p,) float32: importance of each positive row in L_loc. A negative row has no object to move
    to, so it does not count in L_loc."""
    count: int
    """Number of rows N that the losses are divided by: a joined row counts twice."""


def training_rows(clusters: Clusters, targets: Targets, config: StageConfig) -> TrainingRows:
    """Return the labelled and weighted rows of all clusters.

    The rows are members, then representative boxes, and those of positive clusters come first. A
    negative cluster on a crowd region of its class gives no rows. With ``clusters`` off in the
    settings, each candidate counts as a cluster of its own.

    Args:
        clusters: the candidates and their clusters.
        targets: the ground truth of the batch, in the pixels of the candidates.
        config: settings of the stage. ``members`` and ``representative_rows`` choose the rows.
    """
    if not config.clusters:
        clusters = each_alone(clusters.candidates)
    matches = match_clusters(clusters, targets, config.positive_iou)
    w_cls, w_loc = importance(clusters, matches, config.weighting)
    every = torch.arange(len(clusters.assignment), device=clusters.keys.device)
    members = every if config.members else clusters.keys
    owner = clusters.assignment[members]
    boxes = clusters.candidates.boxes[members]
    w_cls, w_loc = w_cls[members], w_loc[members]
    joined = torch.zeros_like(matches.ignored)
    dropped = matches.ignored[owner]
    if config.has_representatives:
        # The representative box (Eq. 3) is scored at inference, as s_clu. So it is a row as well,
        # with weight 1.
        representatives = representative_boxes(clusters, config.representative)
        joined = (representatives == clusters.candidates.boxes[clusters.keys]).all(dim=1)
        row_of_key = clusters.keys if config.members else every[: len(clusters.keys)]
        w_cls, w_loc = (
            column.index_add(0, row_of_key, joined.to(column.dtype)) for column in (w_cls, w_loc)
        )
        ones = torch.ones_like(clusters.candidates.scores[clusters.keys])
        owner = torch.cat([owner, every[: len(clusters.keys)]])
        boxes = torch.cat([boxes, representatives])
        w_cls, w_loc = torch.cat([w_cls, ones]), torch.cat([w_loc, ones])
        dropped = torch.cat([dropped, joined | matches.ignored])
    # Every row takes the label and the truth of its cluster, even if its IoU is low.
    positive = matches.positive[owner]
    place = torch.where(dropped, 2, torch.where(positive, 0, 1))
    first = place.argsort(stable=True)
    counts = [(place == 0).sum(), (place < 2).sum(), (joined & ~matches.ignored).sum()]
    # The three numbers reach the host together, because each transfer waits for the device.
    positives, used, joined_rows = torch.stack(counts).tolist()
    order = first[:used]
    owner = owner[order]
    key = clusters.keys[owner]
    return TrainingRows(
        boxes=boxes[order],
        image=clusters.candidates.image[key],
        labels=clusters.candidates.labels[key],
        positive=positive[order],
        w_cls=w_cls[order],
        truths=targets.boxes[matches.truth[owner[:positives]]],
        w_loc=w_loc[order[:positives]],
        count=used + joined_rows,
    )
