"""Faster R-CNN with a feature pyramid, made of torchvision's parts.

Papers: arXiv 1506.01497 and 1612.03144.
"""

from collections.abc import Mapping
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from postnms.config import Fraction
from postnms.detectors.config import TORCHVISION_BETA, TwoStageConfig
from postnms.detectors.image_batch import ImageBatch
from postnms.detectors.network import Selection
from postnms.detectors.parts import box_head
from postnms.detectors.parts.backbone import build_backbone, build_transform, levels_of
from postnms.detectors.parts.classes import ClassOutputs, truths_of
from postnms.detectors.parts.edges import EdgeCoder, EdgePredictor
from postnms.detectors.parts.frame import Frame, FramedNetwork
from postnms.detectors.parts.pisa import PISAConfig, pisa_losses
from postnms.detectors.parts.proposal_scores import is_alike, predict_proposals
from postnms.detectors.parts.proposals import build_rpn, most_proposals, propose
from postnms.distributed.collectives import CountedLoss
from postnms.structures import Candidates, Targets


class FasterRCNNConfig(TwoStageConfig):
    """Settings of a Faster R-CNN with a feature pyramid."""

    kind: Literal["faster_rcnn"] = "faster_rcnn"
    box_fg_iou_thresh: Fraction = 0.5
    """A proposal is positive for the box head from this IoU with an object on."""
    box_bg_iou_thresh: Fraction = 0.5
    """A proposal is negative for the box head below this IoU with every object."""
    pisa: PISAConfig | None = None
    """Settings of PISA, with which some samples of the box head matter more in training. None: all
    samples are equal."""

    @classmethod
    def training_only(cls) -> frozenset[str]:
        """Return the names of the fields that training alone reads."""
        own = {"box_fg_iou_thresh", "box_bg_iou_thresh", "pisa"}
        return super().training_only() | own


class FasterRCNN(FramedNetwork):
    """Features and candidates of a Faster R-CNN.

    The modules are torchvision's and keep its state-dict names.
    """

    class_layers = ("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred")

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: nn.Module,
        frame: Frame,
        rpn: RegionProposalNetwork,
        roi_heads: RoIHeads,
        rpn_smooth_l1_beta: float = TORCHVISION_BETA,
        box_smooth_l1_beta: float = TORCHVISION_BETA,
        pisa: PISAConfig | None = None,
    ) -> None:
        super().__init__(transform, backbone, frame)
        self.rpn = rpn
        self.roi_heads = roi_heads
        if isinstance(roi_heads.box_predictor, EdgePredictor):
            self._name_edge_layers(roi_heads.box_predictor)
        self.rpn_smooth_l1_beta = rpn_smooth_l1_beta
        self.box_smooth_l1_beta = box_smooth_l1_beta
        self.pisa = pisa

    def candidates(
        self,
        features: dict[str, Tensor],
        images: ImageBatch,
        targets: Targets | None = None,
        selection: Selection = Selection(),
    ) -> tuple[Candidates, Mapping[str, Tensor | CountedLoss]]:
        """Return candidates over the score threshold, and with ``targets`` the four losses."""
        truths = None if targets is None else truths_of(targets, self.classes)
        proposals, losses = propose(self.rpn, images, features, truths, self.rpn_smooth_l1_beta)
        predict = partial(self._predict, features, keep_hidden=selection.features)
        if truths is None:
            predictions = predict(proposals)
            box_head.check_predictions({"box head": predictions}, features)
            return self._select(predictions, images, selection), losses
        sample = box_head.sample_boxes(self.roi_heads, proposals, truths, images.generators)
        predictions = predict(sample.boxes)
        losses |= self._losses(predictions, sample, truths, images)
        if selection.origin == "sampled":
            return self._select(predictions, images, selection, sample.rows), losses
        # The stage learns from the boxes that it will meet: the proposals without injected ground
        # truth, scored as in evaluation mode.
        most = 0 if selection.losses_only else most_proposals(self.rpn)
        again = predict_proposals(
            predict,
            self.roi_heads,
            proposals,
            most,
            (predictions, sample.rows) if most and is_alike(self.roi_heads) else None,
        )
        return self._select(again, images, selection), losses

    def _name_edge_layers(self, predictor: EdgePredictor) -> None:
        names = [f"roi_heads.box_predictor.{name}" for name, _ in predictor.named_children()]
        self.class_layers = tuple(names)
        self.added_layers = tuple(name for name in names if name.endswith("bbox_pred_std"))

    def _predict(
        self, features: dict[str, Tensor], boxes: list[Tensor], *, keep_hidden: bool
    ) -> box_head.Predictions:
        return box_head.run_head(
            self.roi_heads, features, self.levels, boxes, keep_hidden=keep_hidden
        )

    def _losses(
        self,
        predictions: box_head.Predictions,
        sample: box_head.HeadSample,
        truths: list[dict[str, Tensor]],
        images: ImageBatch,
    ) -> dict[str, CountedLoss]:
        beta = self.box_smooth_l1_beta
        if self.pisa is None:
            classifier, location = box_head.head_losses(predictions, sample, beta)
        else:
            classifier, location = pisa_losses(
                self.roi_heads, predictions, sample, truths, images, self.pisa, beta
            )
        return {"loss_classifier": classifier, "loss_box_reg": location}

    def _select(
        self,
        predictions: box_head.Predictions,
        images: ImageBatch,
        selection: Selection,
        rows: list[Tensor] | None = None,
    ) -> Candidates:
        scores = predictions.logits.detach().softmax(dim=1)
        return box_head.select_candidates(
            self.roi_heads, predictions, scores, images, self.classes, selection, rows
        )


def build_faster_rcnn(config: FasterRCNNConfig, num_classes: int) -> FasterRCNN:
    """Build a Faster R-CNN with random heads for ``num_classes`` classes, background excluded."""
    roi_heads = RoIHeads(
        MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
        TwoMLPHead(config.backbone.fpn_channels * 7**2, config.box_head_width),
        _build_predictor(config, num_classes + 1),
        config.box_fg_iou_thresh,
        config.box_bg_iou_thresh,
        config.box_batch_size_per_image,
        config.box_positive_fraction,
        None,  # torchvision's weights of the box deltas, (10, 10, 5, 5)
        config.box_score_thresh,
        config.box_nms_thresh,
        config.box_detections_per_img,
    )
    if config.box_coding == "edges":
        roi_heads.box_coder = EdgeCoder()
    frame = Frame(
        levels_of(config.backbone, range(2, 6)),
        ClassOutputs(tuple(range(1, num_classes + 1)), num_classes + 1),
        config.box_nms_thresh,
        config.box_detections_per_img,
    )
    return FasterRCNN(
        build_transform(config),
        build_backbone(config.backbone, first_level=2),
        frame,
        build_rpn(config),
        roi_heads,
        config.rpn_smooth_l1_beta,
        config.box_smooth_l1_beta,
        config.pisa,
    )


def _build_predictor(config: FasterRCNNConfig, outputs: int) -> nn.Module:
    """Return the last layers of the box head, for ``outputs`` outputs of the classifier."""
    if config.box_coding == "centre":
        return FastRCNNPredictor(config.box_head_width, outputs)
    has_variance = config.box_loss == "kl"
    return EdgePredictor(config.box_head_width, outputs, outputs, has_variance=has_variance)
