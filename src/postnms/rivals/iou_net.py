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
from postnms.orders import sort_by_image
from postnms.rivals.config import IoUHeadConfig
from postnms.rivals.jitter import LEAST_IOU, MovedBoxes
from postnms.rivals.networks import POOLED_SIDE, ClassWiseHead
from postnms.structures import Detections, Targets, derive, take

_SPREAD = 1 - LEAST_IOU
"""The IoUs that are learnt, [0.5, 1], are brought to [0, 1] by this factor."""


class IoUHead(ClassWiseHead[IoUHeadConfig]):
    """Predicts the IoU of a box with the object of a class, from precisely pooled features."""

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
        predicted = self.at_moved(features, moved, targets)
        # Both sides are divided by the spread of the IoU, as OpenMMLab-IoUNet does.
        total = F.smooth_l1_loss(predicted / _SPREAD, moved.iou / _SPREAD, reduction="sum")
        return mean_over_rows(self.config.loss_weight * total, len(moved.iou))

    def refine(
        self,
        features: Mapping[str, Tensor],
        sizes: Sequence[tuple[int, int]],
        detections: Detections,
    ) -> Detections:
        """Move boxes to a higher predicted IoU (algorithm 2), and multiply their scores by it.

        The product is that of OpenMMLab-IoUNet. A step follows the gradient of the predicted IoU,
        in units of the sides of the box. A box stops when its predicted IoU hardly changes, or
        falls.

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
        moving = torch.arange(len(boxes), device=boxes.device)
        iou, gradient = self._climb(frozen, detections, boxes, moving)
        for step in range(config.refine_steps):
            if not len(moving):
                break
            boxes[moving] = _step(boxes[moving], gradient, config.refine_rate, limits[moving])
            # No step follows the last look.
            goes_on = step + 1 < config.refine_steps
            now, gradient = self._climb(frozen, detections, boxes, moving, gradient=goes_on)
            change = now - iou[moving]
            iou[moving] = now
            climbs = change.abs() >= config.refine_tolerance
            rows = (climbs & (change >= -config.refine_drop)).nonzero().squeeze(1)
            moving, gradient = moving[rows], gradient[rows]
        changed = derive(detections, boxes=boxes, scores=detections.scores * iou)
        return take(changed, sort_by_image(changed.scores, changed.image))

    def _climb(
        self,
        features: Mapping[str, Tensor],
        detections: Detections,
        boxes: Tensor,
        rows: Tensor,
        *,
        gradient: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Return the predicted IoU of some boxes (r,), and its gradient with respect to them.

        ``boxes`` are those of all detections. The gradient (r, 4) is 0 if it is not asked for.
        """
        here = boxes[rows]
        where = (detections.image[rows], detections.labels[rows])
        if not (gradient and len(rows)):
            with torch.no_grad():
                return self(features, here, *where), torch.zeros_like(here)
        with torch.enable_grad():
            iou = self(features, here.requires_grad_(), *where)
            return iou.detach(), torch.autograd.grad(iou.sum(), here)[0]


def _step(boxes: Tensor, gradient: Tensor, rate: float, limits: Tensor) -> Tensor:
    """Return boxes (r, 4) after a step along the gradient. ``limits`` (r, 2): height and width."""
    side = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moved = clip(boxes + rate * gradient * side, limits)
    # A step must not turn a box inside out.
    is_box = (moved[:, 2:] > moved[:, :2]).all(dim=1, keepdim=True)
    return torch.where(is_box & torch.isfinite(moved).all(dim=1, keepdim=True), moved, boxes)
