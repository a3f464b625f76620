"""Boxes by their edges, and how sure a box head is of each edge (KL loss, arXiv 1809.08545).

A head of this kind moves the four edges of a box one by one. With the KL loss it predicts, for each
edge, a normal distribution of its place: the mean is the moved edge, and the logarithm of the
variance is one more output. Variance voting ("Softer-NMS") trusts an edge less the larger its
variance is.

n: boxes, p: boxes of all images, C: outputs of the classifier (the background class comes first).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder

from postnms.devices import constant

EDGE_WEIGHT = 10.0
"""Factor of the distance of an edge over the side of the box, as for dx and dy of other heads."""
VARIANCE_SPREAD = 1e-4
"""Standard deviation of the initial weights of the layer that predicts variances.

All variances then begin near 1, where the KL loss is smooth-L1 with beta 1. Training diverges from
larger weights, because the loss has the inverse of the variance as a factor."""
DELTA_LOG_VARIANCE = "delta_log_variance"
"""Name of the further output of a head with variances: the logarithm of the variance of each
weighted delta, (p, C, 4), or (p, 1, 4) where one value serves every class."""


class EdgeCoder(BoxCoder):
    """Boxes to deltas of their edges and back: (x1* - x1) / w, (y1* - y1) / h, and so on.

    ``*`` stands for the true box; w and h are the sides of the box that is moved. All deltas are
    multiplied by one weight.
    """

    def __init__(self, weight: float = EDGE_WEIGHT) -> None:
        super().__init__((weight, weight, weight, weight))

    def encode_single(self, reference_boxes: Tensor, proposals: Tensor) -> Tensor:
        """Return the deltas (n, 4) that move each box ``proposals`` onto its true box."""
        return (reference_boxes - proposals) / self.units(proposals)

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Return the boxes moved by their deltas (n, 4), or by c sets of them (n, 4 c).

        A right or bottom edge that would lie before the opposite edge is placed upon it. Such a box
        has no area, and no candidate comes of it.
        """
        deltas = rel_codes.unflatten(-1, (-1, 4))
        moved = boxes[:, None] + deltas * self.units(boxes)[:, None]
        first = moved[..., :2]
        return torch.cat([first, torch.maximum(first, moved[..., 2:])], dim=-1).flatten(1)

    def units(self, boxes: Tensor) -> Tensor:
        """Return how many pixels one unit of each delta is: (n, 4) for boxes (n, 4)."""
        sides = boxes[:, 2:] - boxes[:, :2]
        return sides.repeat(1, 2) / constant(self.weights, boxes.dtype, boxes.device)


class EdgePredictor(nn.Module):
    """The last layers of a box head that moves edges.

    Args:
        in_channels: number of features of a box.
        outputs: C, the outputs of the classifier.
        sets: number of sets of deltas: C for one set a class, 1 for one that serves every class.
        has_variance: whether to predict the variance of each delta.
    """

    def __init__(self, in_channels: int, outputs: int, sets: int, *, has_variance: bool) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, outputs)
        # The layer has a name of its own, so that weights of centres are not taken for those of
        # edges: the shapes are the same.
        self.edge_pred = nn.Linear(in_channels, 4 * sets)
        self.bbox_pred_std = nn.Linear(in_channels, 4 * sets) if has_variance else None
        if self.bbox_pred_std is not None:
            nn.init.normal_(self.bbox_pred_std.weight, std=VARIANCE_SPREAD)
            nn.init.zeros_(self.bbox_pred_std.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return logits (p, C), deltas (p, 4 sets) and further outputs, for (p, in_channels)."""
        logits, deltas = self.cls_score(features), self.edge_pred(features)
        if self.bbox_pred_std is None:
            return logits, deltas, {}
        variances = self.bbox_pred_std(features).unflatten(1, (-1, 4))
        return logits, deltas, {DELTA_LOG_VARIANCE: variances}


def kl_losses(deltas: Tensor, targets: Tensor, log_variance: Tensor) -> Tensor:
    """Return the KL loss of each delta, all of one shape (n, 4).

    With a = log variance and e = delta - target it is exp(-a) smooth-L1(e) + a / 2, where the beta
    of smooth-L1 is 1. For abs(e) <= 1 this is the negative logarithm of the normal density at e but
    for a constant, and beyond it the loss grows linearly. It may be below 0.
    """
    errors = F.smooth_l1_loss(deltas, targets, beta=1.0, reduction="none")
    return torch.exp(-log_variance) * errors + log_variance / 2


def pixel_log_variance(coder: BoxCoder, log_variance: Tensor, boxes: Tensor) -> Tensor:
    """Return the logarithm of the variance of each edge in square pixels: (n, 4).

    ``log_variance`` (n, 4) is that of the weighted deltas, and ``boxes`` (n, 4) are those that the
    deltas move.
    """
    if not isinstance(coder, EdgeCoder):
        raise TypeError(f"coder: expected an EdgeCoder, got {type(coder).__name__}")
    return log_variance + 2 * torch.log(coder.units(boxes))
