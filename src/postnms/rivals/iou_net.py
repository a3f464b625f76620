"""IoU-Net: a predicted IoU for each box, and boxes that climb to a higher one (arXiv 1807.11590).

r: boxes, B: images.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from postnms.boxes import clip
from postnms.devices import constant
from postnms.distributed.collectives import CountedLoss, mean_over_rows
from postnms.ops.pooling.precise import pool_precisely
from postnms.rivals.config import IoUHeadConfig
from postnms.rivals.jitter import LEAST_IOU, MovedBoxes
from postnms.rivals.networks import POOLED_SIDE, ClassWiseHead
from postnms.structures import Detections, Level, Targets, derive, take

_SPREAD = 1 - LEAST_IOU
"""The IoUs that are learnt, [0.5, 1], are brought to [0, 1] by this factor."""


class IoUHead(ClassWiseHead):
    """Predicts the IoU of a box with the object of a class, from precisely pooled features.

    Args:
        config: settings of the head.
        levels: the pyramid levels that boxes are pooled from, by name, from fine to coarse.
        num_classes: number of classes, without a background class.
    """

    def __init__(
        self, config: IoUHeadConfig, levels: Mapping[str, Level], num_classes: int
    ) -> None:
        super().__init__(levels, config.width, num_classes)
        self.config = config

    def forward(
        self, features: Mapping[str, Tensor], boxes: Tensor, image: Tensor, labels: Tensor
    ) -> Tensor:
        """Return the predicted IoU of each box: (r,) float32, any value, usually in [0.5, 1].

        A gradient flows into the features and into the boxes.

        Args:
            features: feature maps (B, C, H, W) by name, among them the levels of the head.
            boxes: (r, 4) float32, xyxy, in pixels of the network's input.
            image: (r,) int64, the image of each box.
            labels: (r,) int64, the class that each box is looked at for.
        """
        levels = self.pooled_levels(features)
        pooled = pool_precisely(levels, boxes, image, self.strides, POOLED_SIDE)
        return LEAST_IOU + _SPREAD * self.score(pooled, labels)

    def loss(
        self, features: Mapping[str, Tensor], moved: MovedBoxes, targets: Targets
    ) -> CountedLoss:
        """Return smooth-L1 of the IoU, which is brought to [0, 1], as a mean over the boxes."""
        image = targets.image[moved.truth]
        predicted = self(features, moved.boxes, image, targets.labels[moved.truth])
        # Both sides are divided by the spread of the IoU, as in section 3.1 of the paper.
        total = F.smooth_l1_loss(predicted / _SPREAD, moved.iou / _SPREAD, reduction="sum")
        return mean_over_rows(self.config.loss_weight * total, len(moved.iou))

    def refine(
        self,
        features: Mapping[str, Tensor],
        sizes: Sequence[tuple[int, int]],
        detections: Detections,
    ) -> Detections:
        """Move boxes to a higher predicted IoU, and multiply their scores by it (algorithm 2).

        A step follows the gradient of the predicted IoU, in units of the sides of the box. A box
        stops when its predicted IoU hardly changes, or falls.

        Args:
            features: feature maps (B, C, H, W) by name, among them the levels of the head.
            sizes: (height, width) of each image. Boxes are clipped to it.
            detections: what IoU-guided NMS has kept.

        Returns:
            The same detections by image, then by falling new score.
        """
        config = self.config
        frozen = {name: level.detach() for name, level in self.pooled_levels(features).items()}
        limits = constant(sizes, torch.int64, detections.boxes.device)[detections.image]
        boxes = detections.boxes.clone()
        iou = torch.zeros_like(detections.scores)
        moving = torch.arange(len(iou), device=iou.device)
        for step in range(config.refine_steps + 1):
            if not len(moving):
                break
            with torch.enable_grad():
                here = boxes[moving].requires_grad_()
                image, labels = detections.image[moving], detections.labels[moving]
                predicted = self(frozen, here, image, labels)
                (gradient,) = torch.autograd.grad(predicted.sum(), here)
            change = predicted.detach() - iou[moving]
            iou[moving] = predicted.detach()
            goes_on = (change.abs() >= config.refine_tolerance) & (change >= -config.refine_drop)
            if step == 0:
                goes_on |= True  # Before the first step there is no change.
            rows = goes_on.nonzero().squeeze(1)
            moving = moving[rows]
            if step < config.refine_steps:
                boxes[moving] = _step(
                    boxes[moving], gradient[rows], config.refine_rate, limits[moving]
                )
        scores = detections.scores * iou
        order = scores.argsort(descending=True, stable=True)
        order = order[detections.image[order].argsort(stable=True)]
        changed = derive(detections, boxes=boxes, scores=scores)
        return take(changed, order)


def _step(boxes: Tensor, gradient: Tensor, rate: float, limits: Tensor) -> Tensor:
    """Return boxes (r, 4) after a step along the gradient. ``limits`` (r, 2): height and width."""
    side = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moved = clip(boxes + rate * gradient * side, limits)
    # A step must not turn a box inside out.
    is_box = (moved[:, 2:] > moved[:, :2]).all(dim=1, keepdim=True)
    return torch.where(is_box & torch.isfinite(moved).all(dim=1, keepdim=True), moved, boxes)
