"""Importance of the training rows, the losses of the stage and their weight beta (paper: section 3.3, Table 5).

n: candidates, k: clusters, r: training rows.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from postnms.clustering import reduce_members
from postnms.stage.matching import Matches
from postnms.structures import Clusters

Weighting = Literal["all", "cls", "loc", "none"]


def importance(
    clusters: Clusters, matches: Matches, weighting: Weighting = "all"
) -> tuple[Tensor, Tensor]:
    """Weights of each candidate in the classification and in the location loss: two (n,) in [0, 1].

    ``w_cls = IoU / max IoU``, ``w_loc = score / max score``, each over the members of the cluster, the IoU with the
    cluster's truth. A negative cluster has w_cls = 1. ``weighting`` says which of the two are used; 1 otherwise.
    """
    scores = clusters.candidates.scores
    ones = torch.ones_like(scores)
    w_cls = _share_of_best(matches.iou, clusters) if weighting in ("all", "cls") else ones
    w_loc = _share_of_best(scores, clusters) if weighting in ("all", "loc") else ones
    return torch.where(matches.positive[clusters.assignment], w_cls, ones), w_loc


def beta(keys: float, candidates: float) -> float:
    """Weight of the stage's loss beside the detector's: keys / candidates of the batch, 0 without candidates."""
    return keys / candidates if candidates else 0.0


def classification_loss(logits: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    """Weighted binary cross-entropy, summed. Logits, bool labels and weights (r,) -> (); float32."""
    losses = F.binary_cross_entropy_with_logits(logits.float(), positive.float(), reduction="none")
    return (weights * losses).sum()


def location_loss(
    deltas: Tensor, wanted: Tensor, weights: Tensor, smooth_l1_beta: float = 1.0
) -> Tensor:
    """Weighted smooth-L1, summed over rows and coordinates. Deltas and wanted deltas (r, 4) -> (); float32."""
    losses = F.smooth_l1_loss(deltas.float(), wanted, reduction="none", beta=smooth_l1_beta)
    return (weights[:, None] * losses).sum()


def _share_of_best(values: Tensor, clusters: Clusters) -> Tensor:
    best = reduce_members(values, clusters, "amax")[clusters.assignment]
    return torch.where(best > 0, values / best, torch.ones_like(values))
