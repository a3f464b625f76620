"""Faster R-CNN with a feature pyramid (arXiv 1506.01497, 1612.03144), composed of torchvision's parts.

p: proposals of all images, K: classes without the background.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from postnms.config import Fraction
from postnms.detectors.config import TwoStageConfig
from postnms.detectors.image_batch import ImageBatch, build_transform, prepare_images
from postnms.detectors.modes import as_at_test
from postnms.detectors.network import Selection
from postnms.detectors.parts import box_head
from postnms.detectors.parts.backbone import build_backbone, levels_of, pyramid
from postnms.detectors.parts.classes import Columns, truths_of
from postnms.detectors.parts.proposals import build_rpn, propose
from postnms.structures import Candidates, Level, Targets


class FasterRCNNConfig(TwoStageConfig):
    """Faster R-CNN with a feature pyramid."""

    kind: Literal["faster_rcnn"] = "faster_rcnn"
    box_fg_iou_thresh: Fraction = 0.5
    box_bg_iou_thresh: Fraction = 0.5


class FasterRCNN(nn.Module):
    """Features and candidates of a Faster R-CNN; the modules are torchvision's and keep its state-dict names."""

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: nn.Module,
        rpn: RegionProposalNetwork,
        roi_heads: RoIHeads,
        levels: Mapping[str, Level],
        columns: Columns,
    ) -> None:
        super().__init__()
        self.transform, self.backbone, self.rpn, self.roi_heads = (
            transform,
            backbone,
            rpn,
            roi_heads,
        )
        self.levels, self.columns, self.num_classes = levels, columns, len(columns)
        self.nms_threshold, self.max_detections = roi_heads.nms_thresh, roi_heads.detections_per_img

    def prepare(self, images: Sequence[Tensor]) -> ImageBatch:
        """Images as given -> normalised, resized, padded."""
        return prepare_images(self.transform, images)

    def features(self, images: ImageBatch) -> dict[str, Tensor]:
        """Pyramid levels (B, C, H, W) by name."""
        return pyramid(self.backbone, images.pixels)

    def candidates(
        self,
        features: dict[str, Tensor],
        images: ImageBatch,
        targets: Targets | None = None,
        selection: Selection = Selection(),
    ) -> tuple[Candidates, dict[str, Tensor]]:
        """Candidates over the score threshold, and with ``targets`` the four losses of training.

        With targets, candidates are the step's own proposals without injected ground truth, scored under no-grad
        as at test time, or what the losses were sampled from, as ``selection.origin`` says.
        """
        truths = None if targets is None else truths_of(targets, self.columns)
        proposals, losses = propose(self.rpn, images, features, truths)
        if truths is None:
            return self._select(self._predict(features, proposals), images, selection), losses
        sample = box_head.sample(self.roi_heads, proposals, truths, images.generators)
        found = self._predict(features, sample.boxes)
        loss_classifier, loss_box = box_head.losses(found, sample)
        losses |= {"loss_classifier": loss_classifier, "loss_box_reg": loss_box}
        if selection.origin == "sampled":
            return self._select(found, images, selection, sample.rows), losses
        if selection.origin == "none":
            proposals = [part[:0] for part in proposals]
        with as_at_test(self.roi_heads):
            return self._select(self._predict(features, proposals), images, selection), losses

    def _predict(self, features: dict[str, Tensor], boxes: list[Tensor]) -> box_head.Predictions:
        return box_head.predict(self.roi_heads, features, self.levels, boxes)

    def _select(
        self,
        found: box_head.Predictions,
        images: ImageBatch,
        selection: Selection,
        rows: list[Tensor] | None = None,
    ) -> Candidates:
        scores = found.logits.detach().softmax(dim=1)
        return box_head.select(self.roi_heads, found, scores, images, self.columns, selection, rows)


def build_faster_rcnn(config: FasterRCNNConfig, num_classes: int) -> FasterRCNN:
    """A Faster R-CNN with random heads for ``num_classes`` classes, background not counted."""
    roi_heads = RoIHeads(
        MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
        TwoMLPHead(config.backbone.fpn_channels * 7**2, config.box_head_width),
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
    return FasterRCNN(
        build_transform(config),
        build_backbone(config.backbone, first_level=2),
        build_rpn(config),
        roi_heads,
        levels_of(config.backbone, range(2, 6)),
        Columns(tuple(range(1, num_classes + 1))),
    )
