"""Importance of the training rows, and the losses of the stage with their weight beta.

Paper: section 3.3 and Table 5.

n: candidates, r: training rows.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from postnms.clustering import reduce_members
from postnms.distributed.collectives import at_least_one_row
from postnms.stage.matching import MemberMatches
from postnms.structures import Clusters

Weighting = Literal["all", "cls", "loc", "none"]
"""Which importance weights are in use: both, those of one loss, or none of them (Table 5)."""


def importance(
    clusters: Clusters, matches: MemberMatches, weighting: Weighting = "all"
) -> tuple[Tensor, Tensor]:
    """Return the weights of each candidate in the classification and in the location loss.

    ``w_cls = IoU / max IoU`` and ``w_loc = score / max score``. Each maximum is over the members of
    the cluster, and the IoU is that of a member with its truth. A negative candidate has w_cls = 1.
    A cluster in which every score is 0 has w_loc = 1.

    Args:
        clusters: the candidates and their clusters.
        matches: the label and the truth of each candidate.
        weighting: the weights in use (Table 5). The other weights are 1.

    Returns:
        w_cls and w_loc: (n,) float32 each, in the order of the candidates. They are in [0, 1] if no
        score is negative.
    """
    scores = clusters.candidates.scores
    ones = torch.ones_like(scores)
    w_cls = _share_of_best(matches.iou, clusters) if weighting in ("all", "cls") else ones
    w_loc = _share_of_best(scores, clusters) if weighting in ("all", "loc") else ones
    # The IoUs of a negative cluster may all be 0. Negative candidates count fully, because they
    # alone teach the objectness network where no object is.
    return torch.where(matches.positive, w_cls, ones), w_loc


def beta(keys: float, candidates: float) -> float:
    """Return the weight of the stage's loss in the total loss: keys / candidates of the batch.

    It is in [0, 1], and 0 without candidates. It is a plain number without a gradient.
    """
    return keys / candidates if candidates else 0.0


def normalised(
    total: Tensor, weight: float | Literal["ratio"], keys: float, candidates: float, rows: float
) -> Tensor:
    """Return ``beta * total / N``, a term of beta * L_post = beta * (L_cls + L_loc) / N.

    Args:
        total: L_cls or L_loc, a sum over the rows of this process.
        weight: beta. ``ratio``: the one that :func:`beta` gives.
        keys: keys, as the mean over the processes.
        candidates: candidates, as the mean over the processes.
        rows: N, all rows, negative ones included, as the mean over the processes.
    """
    ratio = beta(keys, candidates) if weight == "ratio" else weight
    return ratio / at_least_one_row(rows) * total


def classification_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return L_cls, the sum over the rows of w_cls times binary cross-entropy.

    Args:
        logits: (r,) floating, the objectness.
        targets: (r,) bool or float32 in [0, 1]: whether the row's cluster is positive, or what
            takes the place of it, as ``stage.objectness`` says.
        weights: (r,) float32, w_cls.

    Returns:
        () float32.
    """
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none")
    return (weights * losses).sum()


def location_loss(
    deltas: Tensor, target_deltas: Tensor, weights: Tensor, smooth_l1_beta: float = 1.0
) -> Tensor:
    """Return L_loc, the sum over rows and coordinates of w_loc times smooth-L1.

    Args:
        deltas: (r, 4) floating, the refinement.
        target_deltas: (r, 4) float32, the deltas that move each row onto its truth.
        weights: (r,) float32, w_loc, 0 for negative rows.
        smooth_l1_beta: smooth-L1 is quadratic for errors below this and linear above it.

    Returns:
        () float32.
    """
    losses = F.smooth_l1_loss(deltas.float(), target_deltas, reduction="none", beta=smooth_l1_beta)
    return (weights[:, None] * losses).sum()


def _share_of_best(values: Tensor, clusters: Clusters) -> Tensor:
    """Divide each value by the largest one of its cluster. Where that is 0, return 1, not 0 / 0."""
    best = reduce_members(values, clusters, "amax")[clusters.assignment]
    return torch.where(best > 0, values / best, torch.ones_like(values))
