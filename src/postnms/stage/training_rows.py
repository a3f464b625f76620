"""The rows that the stage is trained on: members and representative boxes (paper: section 3.3).

Few boxes are left after NMS. Since every member of a cluster is a row, and not the key alone, the
supervision of the stage is not sparse.

r: rows, p: positive rows.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from postnms.clustering import each_alone, representative_boxes
from postnms.stage.config import StageConfig
from postnms.stage.losses import importance
from postnms.stage.matching import Matches, MemberMatches, match_clusters, match_members
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
    """(r,) bool: whether the row is positive. True in the first p rows."""
    w_cls: Tensor
    """(r,) float32: importance of the row in L_cls."""
    truths: Tensor
    """(p, 4) float32: the ground-truth box of each positive row."""
    w_loc: Tensor
    """(p,) float32: importance of each positive row in L_loc. A negative row has no object to move
    to, so it does not count in L_loc."""
    count: int
    """Number of rows N that the losses are divided by: a joined row counts twice."""


@dataclass(frozen=True)
class _Rows:
    """Rows in the order in which they are made. Every column has r entries."""

    source: Tensor
    """int64: the candidate that the row has its image and its class from."""
    boxes: Tensor
    w_cls: Tensor
    w_loc: Tensor
    positive: Tensor
    truth: Tensor
    """int64: row in the targets."""
    dropped: Tensor
    """bool: the row is not used."""


def training_rows(clusters: Clusters, targets: Targets, config: StageConfig) -> TrainingRows:
    """Return the labelled and weighted rows of all clusters.

    The rows are members, then representative boxes, and positive ones come first. A negative row on
    a crowd region of its class is left out. With ``clusters`` off in the settings, each candidate
    counts as a cluster of its own.

    Args:
        clusters: the candidates and their clusters.
        targets: the ground truth of the batch, in the pixels of the candidates.
        config: settings of the stage. ``members`` and ``representative_rows`` choose the rows,
            ``member_labels`` the label and the truth of a member.
    """
    if not config.clusters:
        clusters = each_alone(clusters.candidates)
    matches = match_clusters(clusters, targets, config.positive_iou)
    of_members = match_members(
        clusters, targets, matches, config.member_labels, config.positive_iou
    )
    rows = _member_rows(clusters, of_members, config)
    joined = torch.zeros_like(matches.ignored)
    if config.has_representatives:
        representatives = _representative_rows(clusters, matches, config)
        keys = clusters.keys
        # With labels of their own, a key and its cluster may learn different things.
        joined = (
            (representatives.boxes == clusters.candidates.boxes[keys]).all(dim=1)
            & (of_members.positive[keys] == matches.positive)
            & (of_members.truth[keys] == matches.truth)
        )
        row_of_key = keys if config.members else torch.arange(len(keys), device=keys.device)
        rows = _join(rows, representatives, joined, row_of_key)
    place = torch.where(rows.dropped, 2, torch.where(rows.positive, 0, 1))
    first = place.argsort(stable=True)
    counts = [(place == 0).sum(), (place < 2).sum(), (joined & ~matches.ignored).sum()]
    # The three numbers reach the host together, because each transfer waits for the device.
    positives, used, joined_rows = torch.stack(counts).tolist()
    order = first[:used]
    source = rows.source[order]
    return TrainingRows(
        boxes=rows.boxes[order],
        image=clusters.candidates.image[source],
        labels=clusters.candidates.labels[source],
        positive=rows.positive[order],
        w_cls=rows.w_cls[order],
        truths=targets.boxes[rows.truth[order[:positives]]],
        w_loc=rows.w_loc[order[:positives]],
        count=used + joined_rows,
    )


def _member_rows(clusters: Clusters, matches: MemberMatches, config: StageConfig) -> _Rows:
    """Return one row for each member, or for each key."""
    every = torch.arange(len(clusters.assignment), device=clusters.keys.device)
    source = every if config.members else clusters.keys
    w_cls, w_loc = importance(clusters, matches, config.weighting)
    columns = (clusters.candidates.boxes, w_cls, w_loc, matches.positive, matches.truth)
    return _Rows(source, *(column[source] for column in (*columns, matches.ignored)))


def _representative_rows(clusters: Clusters, matches: Matches, config: StageConfig) -> _Rows:
    """Return one row for each cluster: its representative box (Eq. 3), with weight 1.

    It is scored at inference, as s_clu. It stands for its cluster, so it has the label and the
    truth of the cluster, whatever those of the members are.
    """
    boxes = representative_boxes(clusters, config.representative)
    ones = torch.ones_like(clusters.candidates.scores[clusters.keys])
    return _Rows(clusters.keys, boxes, ones, ones, matches.positive, matches.truth, matches.ignored)


def _join(members: _Rows, others: _Rows, joined: Tensor, row_of_key: Tensor) -> _Rows:
    """Return members, then representative boxes.

    A representative box that is ``joined`` (k,) to its key has no row. The row of the key, which is
    ``row_of_key`` (k,), carries its weight too.
    """
    w_cls, w_loc = (
        own.index_add(0, row_of_key, torch.where(joined, added, 0))
        for own, added in ((members.w_cls, others.w_cls), (members.w_loc, others.w_loc))
    )
    members = replace(members, w_cls=w_cls, w_loc=w_loc)
    others = replace(others, dropped=others.dropped | joined)
    return _Rows(
        *(
            torch.cat([getattr(rows, field.name) for rows in (members, others)])
            for field in fields(_Rows)
        )
    )
