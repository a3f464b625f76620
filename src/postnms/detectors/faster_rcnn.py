"""Faster R-CNN with a feature pyramid (arXiv 1506.01497, 1612.03144), composed of torchvision's parts.

torchvision decodes, thresholds, suppresses and cuts in one method that runs in eval mode only. Here these are
steps of their own, so that candidates are at hand in training too.

B: images, p: proposals of all images, n: candidates, K: classes without the background.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from postnms.boxes import clip, pairwise_iou
from postnms.detectors.backbone import build_backbone
from postnms.detectors.config import FasterRCNNConfig
from postnms.detectors.images import ImageBatch
from postnms.detectors.proposals import propose
from postnms.ops.roi_align import pool_pyramid
from postnms.structures import Candidates, Targets, take, top_per_image

Origin = Literal["proposals", "sampled", "none"]
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, red green blue, for pixels in [0, 1]."""
MIN_SIDE = 1e-2
"""Candidates with a shorter side, in pixels, are dropped, as torchvision does."""


@dataclass(frozen=True)
class _Sample:
    boxes: list[Tensor]
    rows: list[Tensor]
    """Of each image: rows of its proposals followed by its ground-truth boxes."""
    labels: list[Tensor]
    """0: background; otherwise label + 1."""
    deltas: list[Tensor]


class FasterRCNN(nn.Module):
    """Features and candidates of a Faster R-CNN; the modules are torchvision's and keep its state-dict names."""

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: nn.Module,
        rpn: RegionProposalNetwork,
        roi_heads: RoIHeads,
    ) -> None:
        super().__init__()
        self.transform, self.backbone, self.rpn, self.roi_heads = transform, backbone, rpn, roi_heads
        # The same figures as torchvision's, several times faster on a CPU.
        rpn.box_similarity = pairwise_iou  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def channels(self) -> int:
        """Channels of the pyramid."""
        return int(self.backbone.out_channels)  # pyright: ignore[reportArgumentType]

    @property
    def num_classes(self) -> int:
        """Classes, the background not counted."""
        return self.roi_heads.box_predictor.cls_score.out_features - 1

    @property
    def levels(self) -> list[str]:
        """Names of the pyramid levels that RoIs are pooled from."""
        return list(self.roi_heads.box_roi_pool.featmap_names)

    @property
    def nms_threshold(self) -> float:
        """IoU over which NMS suppresses."""
        return self.roi_heads.nms_thresh

    @property
    def max_detections(self) -> int:
        """Most detections of an image."""
        return self.roi_heads.detections_per_img

    def features(self, images: ImageBatch) -> dict[str, Tensor]:
        """Pyramid levels (B, C, H, W) by name."""
        return self.backbone(images.pixels)

    def candidates(
        self,
        features: dict[str, Tensor],
        images: ImageBatch,
        targets: Targets | None = None,
        origin: Origin = "proposals",
        most: int | None = None,
        score_threshold: float | None = None,
    ) -> tuple[Candidates, dict[str, Tensor]]:
        """Candidates over the score threshold, and with ``targets`` the four losses of training.

        With targets, ``origin`` says what the candidates are: the step's own ``proposals`` without injected
        ground truth, scored under no-grad as at test time; the ``sampled`` ones, ground truth included; or
        ``none``. ``most``: at most so many an image, by score.
        """
        truths = None if targets is None else _as_torchvision(targets)
        proposals, losses = propose(self.rpn, images, features, truths)
        threshold = self.roi_heads.score_thresh if score_threshold is None else score_threshold
        if truths is None:
            logits, deltas = self._box_head(features, proposals, images)
            return self._select(logits, deltas, proposals, images, threshold, most), losses
        sample = self._sample(proposals, truths)
        logits, deltas = self._box_head(features, sample.boxes, images)
        loss_classifier, loss_box = fastrcnn_loss(logits, deltas, sample.labels, sample.deltas)
        losses |= {"loss_classifier": loss_classifier, "loss_box_reg": loss_box}
        boxes, rows = (sample.boxes, sample.rows) if origin == "sampled" else (proposals, None)
        if origin == "proposals":
            with torch.no_grad(), _as_at_test(self.roi_heads):
                logits, deltas = self._box_head(features, proposals, images)
        if origin == "none":
            boxes, logits, deltas = [part[:0] for part in boxes], logits[:0], deltas[:0]
        return self._select(logits, deltas, boxes, images, threshold, most, rows), losses

    def _box_head(self, features: dict[str, Tensor], boxes: list[Tensor], images: ImageBatch) -> tuple[Tensor, Tensor]:
        """Boxes of each image -> class logits (p, K+1), background first, and deltas (p, 4(K+1)); float32."""
        image = torch.arange(len(boxes)).repeat_interleave(torch.tensor([len(part) for part in boxes]))
        levels = {name: features[name] for name in self.levels}
        pool = self.roi_heads.box_roi_pool
        pooled = pool_pyramid(
            levels, torch.cat(boxes), image.to(boxes[0].device), images.sizes, pool.output_size[0], pool.sampling_ratio
        )
        logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        return logits.float(), deltas.float()

    def _sample(self, proposals: list[Tensor], truths: list[dict[str, Tensor]]) -> _Sample:
        """Proposals and injected ground truth, matched, and sampled for the box head's losses."""
        boxes = [truth["boxes"] for truth in truths]
        pool = self.roi_heads.add_gt_proposals(proposals, boxes)
        matched, labels = self.roi_heads.assign_targets_to_proposals(pool, boxes, [t["labels"] for t in truths])
        rows = self.roi_heads.subsample(labels)
        sampled = [part[index] for part, index in zip(pool, rows, strict=True)]
        wanted = [
            truth[match[index]] if len(truth) else truth.new_zeros(len(index), 4)
            for truth, match, index in zip(boxes, matched, rows, strict=True)
        ]
        deltas = list(self.roi_heads.box_coder.encode(wanted, sampled))
        return _Sample(sampled, rows, [part[index] for part, index in zip(labels, rows, strict=True)], deltas)

    def _select(
        self,
        logits: Tensor,
        deltas: Tensor,
        boxes: list[Tensor],
        images: ImageBatch,
        threshold: float,
        most: int | None,
        rows: list[Tensor] | None = None,
    ) -> Candidates:
        """The (box, class) pairs that score more than the threshold, decoded and clipped; the one detach."""
        device, counts = logits.device, [len(part) for part in boxes]
        image = torch.arange(len(boxes), device=device).repeat_interleave(torch.tensor(counts, device=device))
        source = torch.cat(rows or [torch.arange(count, device=device) for count in counts])
        scores = logits.detach().softmax(dim=1)[:, 1:]
        row, label = (scores > threshold).nonzero(as_tuple=True)
        chosen = deltas.detach().unflatten(1, (-1, 4))[row, label + 1]
        decoded = self.roi_heads.box_coder.decode_single(chosen, torch.cat(boxes)[row])
        decoded = clip(decoded, torch.tensor(images.sizes, device=device)[image[row]])
        large = ((decoded[:, 2:] - decoded[:, :2]) >= MIN_SIDE).all(dim=1)  # NaN is not: its losses will tell
        row, label = row[large], label[large]
        found = Candidates(decoded[large], scores[row, label], label, image[row], source[row], len(boxes))
        if most is None:
            return found
        return take(found, top_per_image(found.scores, found.image, len(boxes), most))


def build_faster_rcnn(config: FasterRCNNConfig, num_classes: int) -> FasterRCNN:
    """A Faster R-CNN with random heads for ``num_classes`` classes, background not counted."""
    backbone = build_backbone(config.backbone)
    channels = config.backbone.fpn_channels
    anchors = AnchorGenerator(
        tuple((size,) for size in config.anchor_sizes), (config.aspect_ratios,) * len(config.anchor_sizes)
    )
    rpn = RegionProposalNetwork(
        anchors,
        RPNHead(channels, anchors.num_anchors_per_location()[0]),
        config.rpn_fg_iou_thresh,
        config.rpn_bg_iou_thresh,
        config.rpn_batch_size_per_image,
        config.rpn_positive_fraction,
        {"training": config.rpn_pre_nms_top_n_train, "testing": config.rpn_pre_nms_top_n_test},
        {"training": config.rpn_post_nms_top_n_train, "testing": config.rpn_post_nms_top_n_test},
        config.rpn_nms_thresh,
    )
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2)
    roi_heads = RoIHeads(
        pool,
        TwoMLPHead(channels * 7**2, config.box_head_width),
        FastRCNNPredictor(config.box_head_width, num_classes + 1),
        config.box_fg_iou_thresh,
        config.box_bg_iou_thresh,
        config.box_batch_size_per_image,
        config.box_positive_fraction,
        None,  # torchvision's weights of the box deltas, (10, 10, 5, 5)
        config.box_score_thresh,
        config.box_nms_thresh,
        config.box_detections_per_img,
    )
    transform = GeneralizedRCNNTransform(config.min_size, config.max_size, list(IMAGE_MEAN), list(IMAGE_STD))
    return FasterRCNN(transform, backbone, rpn, roi_heads)


def _as_torchvision(targets: Targets) -> list[dict[str, Tensor]]:
    """Boxes and labels of each image; labels count from 1, crowd regions are left out."""
    rows = [(targets.image == index) & ~targets.crowd for index in range(targets.num_images)]
    return [{"boxes": targets.boxes[row], "labels": targets.labels[row] + 1} for row in rows]


@contextmanager
def _as_at_test(module: nn.Module) -> Iterator[None]:
    """Batch norm and dropout of a module as at test time, its mode restored afterwards."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
