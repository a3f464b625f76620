"""The density head of Adaptive-NMS: how much an object overlaps with another (arXiv 1904.03629).

r: boxes, m: objects of the batch, B: images.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from postnms.boxes import pairwise_iou
from postnms.distributed.collectives import CountedLoss, mean_over_rows
from postnms.ops.pooling.roi_align import pool_pyramid
from postnms.rivals.config import DensityHeadConfig
from postnms.rivals.jitter import MovedBoxes
from postnms.rivals.networks import POOLED_SIDE, ClassWiseHead
from postnms.structures import Targets


class DensityHead(ClassWiseHead[DensityHeadConfig]):
    """Predicts the density of the object under a box, given a class for each."""

    def forward(
        self, features: Mapping[str, Tensor], boxes: Tensor, image: Tensor, labels: Tensor
    ) -> Tensor:
        """Return the predicted density of each box: (r,) float32 in [0, 1].

        Args:
            features: feature maps (B, C, H, W) by name, among them the levels of the head.
            boxes: (r, 4) float32, xyxy, in pixels of the network's input.
            image: (r,) int64, the image of each box.
            labels: (r,) int64, the class that each box is looked at for.
        """
        levels = self.pooled_levels(features)
        pooled = pool_pyramid(levels, boxes, image, self.strides, POOLED_SIDE)
        return self.score(pooled, labels).sigmoid()

    def loss(
        self, features: Mapping[str, Tensor], moved: MovedBoxes, targets: Targets
    ) -> CountedLoss:
        """Return smooth-L1 of the density, as a mean over the boxes."""
        predicted = self.at_moved(features, moved, targets)
        total = F.smooth_l1_loss(predicted, densities(targets)[moved.truth], reduction="sum")
        return mean_over_rows(self.config.loss_weight * total, len(moved.iou))


def densities(targets: Targets) -> Tensor:
    """Return the largest IoU of each object with another of its image and class: (m,) float32.

    It is 0 for an object that is alone. Crowd regions are no objects. (Section 3.2 of the paper,
    Eq. 3.)

    Example:
        >>> import torch
        >>> from postnms import Targets
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 5, 10], [0, 0, 10, 10]])
        >>> labels, image = torch.tensor([0, 0, 1]), torch.zeros(3, dtype=torch.int64)
        >>> targets = Targets(boxes, labels, image, torch.zeros(3, dtype=torch.bool), 1)
        >>> densities(targets).tolist()
        [0.5, 0.5, 0.0]
    """
    count = len(targets.labels)
    if not count:
        return targets.boxes.new_zeros(0)
    is_alike = (targets.image[:, None] == targets.image) & (
        targets.labels[:, None] == targets.labels
    )
    is_other = (
        is_alike & ~targets.crowd & ~torch.eye(count, dtype=torch.bool, device=targets.boxes.device)
    )
    return torch.where(is_other, pairwise_iou(targets.boxes, targets.boxes), 0.0).amax(dim=1)
