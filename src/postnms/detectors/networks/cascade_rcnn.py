"""Cascade R-CNN (arXiv 1712.00726): three heads in a loop.

Each head is trained on the boxes that the head before it has moved. Boxes are sampled once, for
the first head. The other heads take all of the sampled boxes, matched at a higher IoU. One set of
box deltas serves all classes.

p: boxes of all images, C: outputs of the classifier (the background class comes first).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
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
from postnms.detectors.parts.box_head import HeadSample, Predictions
from postnms.detectors.parts.classes import ClassOutputs, truths_of
from postnms.detectors.parts.edges import EdgeCoder, EdgePredictor
from postnms.detectors.parts.frame import Frame, FramedNetwork
from postnms.detectors.parts.proposal_scores import is_alike, predict_proposals
from postnms.detectors.parts.proposals import build_rpn, most_proposals, propose
from postnms.distributed.collectives import CountedLoss
from postnms.structures import Candidates, Targets

Scoring = Literal["last", "mean"]
LossWeight = Annotated[float, Field(ge=0)]
HEAD_DELTA_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
"""Weights of the box deltas (dx, dy, dw, dh) of each head. Deltas of edges have the first one."""


class CascadeRCNNConfig(TwoStageConfig):
    """Settings of a Cascade R-CNN with a feature pyramid."""

    kind: Literal["cascade_rcnn"] = "cascade_rcnn"
    iou_thresholds: tuple[Fraction, Fraction, Fraction] = (0.5, 0.6, 0.7)
    """A box is positive for a head from this IoU with an object on, by head."""
    loss_weights: tuple[LossWeight, LossWeight, LossWeight] = (1.0, 0.5, 0.25)
    """Weights of the losses, by head."""
    scoring: Scoring = "last"
    """``last``: scores of the last head, the paper's "(3)". ``mean``: the mean scores of all heads
    on the last head's boxes, the paper's "(1~3)". The same weights serve both."""

    @classmethod
    def training_only(cls) -> frozenset[str]:
        """Return the names of the fields that training alone reads."""
        return super().training_only() | {"iou_thresholds", "loss_weights"}


class AgnosticPredictor(nn.Module):
    """Two linear layers: class logits (p, C), and one set of box deltas (p, 4) for all classes."""

    def __init__(self, in_channels: int, outputs: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, outputs)
        self.bbox_pred = nn.Linear(in_channels, 4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and deltas for the features (p, in_channels) of a box head."""
        return self.cls_score(features), self.bbox_pred(features)


class CascadeRCNN(FramedNetwork):
    """Features and candidates of a Cascade R-CNN."""

    class_layers = ("heads.*.box_predictor.cls_score",)
    added_layers = ("heads.*.box_predictor.bbox_pred_std",)

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: nn.Module,
        frame: Frame,
        rpn: RegionProposalNetwork,
        heads: Sequence[RoIHeads],
        loss_weights: Sequence[float],
        scoring: Scoring,
        rpn_smooth_l1_beta: float = TORCHVISION_BETA,
        box_smooth_l1_beta: float = TORCHVISION_BETA,
    ) -> None:
        super().__init__(transform, backbone, frame)
        self.rpn = rpn
        self.heads = nn.ModuleList(heads)
        self.loss_weights = loss_weights
        self.scoring = scoring
        self.rpn_smooth_l1_beta = rpn_smooth_l1_beta
        self.box_smooth_l1_beta = box_smooth_l1_beta

    def candidates(
        self,
        features: dict[str, Tensor],
        images: ImageBatch,
        targets: Targets | None = None,
        selection: Selection = Selection(),
    ) -> tuple[Candidates, Mapping[str, Tensor | CountedLoss]]:
        """Return boxes of the last head over the threshold, and with ``targets`` the losses."""
        truths = None if targets is None else truths_of(targets, self.classes)
        proposals, losses = propose(self.rpn, images, features, truths, self.rpn_smooth_l1_beta)
        hidden = selection.features
        run = partial(self._run, features, images=images, keep_hidden=hidden)
        if truths is None:
            predictions = run(proposals, checked=True)
            return self._select(predictions, images, selection), losses
        sample = box_head.sample_boxes(self._head(0), proposals, truths, images.generators)
        rows = sample.rows
        predictions = self._predict(0, features, sample.boxes)
        losses |= self._losses(0, predictions, sample)
        for index in range(1, len(self.heads)):
            boxes = self._moved(index - 1, predictions, images)
            sample = box_head.match_boxes(self._head(index), boxes, truths)
            predictions = self._predict(index, features, sample.boxes, keep_hidden=hidden)
            losses |= self._losses(index, predictions, sample)
        if selection.origin == "sampled":
            return self._select(predictions, images, selection, rows), losses
        # The stage learns from the boxes that it will meet: the proposals without injected ground
        # truth, through all heads as in evaluation mode.
        most = 0 if selection.losses_only else most_proposals(self.rpn)
        # The mean over the heads needs pooled features, which are not kept of a sample.
        reused = most and self.scoring != "mean" and all(map(self._is_alike, self.heads))
        again = predict_proposals(
            run, self.heads, proposals, most, (predictions, rows) if reused else None
        )
        return self._select(again, images, selection), losses

    def _run(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        images: ImageBatch,
        *,
        keep_hidden: bool,
        checked: bool = False,
    ) -> Predictions:
        """Send the boxes of each image through all heads; return the outputs of the last.

        ``keep_hidden``: with its hidden features. ``checked``: raise UserError if an output is not
        finite.
        """
        every = [self._predict(0, features, boxes)]
        for index in range(1, len(self.heads)):
            moved = self._moved(index - 1, every[-1], images)
            every.append(self._predict(index, features, moved, keep_hidden=keep_hidden))
        if checked:
            named = {f"box head {number}": one for number, one in enumerate(every, 1)}
            box_head.check_predictions(named, features)
        return every[-1]

    def _predict(
        self,
        index: int,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        *,
        keep_hidden: bool = False,
    ) -> Predictions:
        """Run one head. ``keep_hidden``: with its hidden features if it is the last head."""
        keep_hidden = keep_hidden and index == len(self.heads) - 1
        head = self._head(index)
        return box_head.run_head(head, features, self.levels, boxes, keep_hidden=keep_hidden)

    def _losses(
        self, index: int, predictions: Predictions, sample: HeadSample
    ) -> dict[str, CountedLoss]:
        classifier, location = box_head.head_losses(predictions, sample, self.box_smooth_l1_beta)
        weight = self.loss_weights[index]
        number = index + 1
        return {
            f"loss_classifier_{number}": classifier.times(weight),
            f"loss_box_reg_{number}": location.times(weight),
        }

    def _moved(self, index: int, predictions: Predictions, images: ImageBatch) -> list[Tensor]:
        """Return the boxes of each image as head ``index`` moved them, detached."""
        row = torch.arange(len(predictions.logits), device=predictions.logits.device)
        moved = box_head.decode_boxes(
            self._head(index), predictions, row, torch.zeros_like(row), images
        )
        # A box that is not finite stays where it was. Its loss stops a diverged training run.
        finite = torch.isfinite(moved).all(dim=1, keepdim=True)
        moved = torch.where(finite, moved, torch.cat(predictions.boxes))
        return list(moved.split([len(part) for part in predictions.boxes]))

    def _select(
        self,
        predictions: Predictions,
        images: ImageBatch,
        selection: Selection,
        rows: list[Tensor] | None = None,
    ) -> Candidates:
        scores = predictions.logits.detach().softmax(dim=1)
        if self.scoring == "mean":
            pooled = predictions.pooled
            assert pooled is not None
            with torch.no_grad():
                earlier = [
                    box_head.score_pooled(self._head(i), pooled)[0]
                    for i in range(len(self.heads) - 1)
                ]
            every = [*(logits.softmax(dim=1) for logits in earlier), scores]
            scores = torch.stack(every).mean(dim=0)
        return box_head.select_candidates(
            self._head(-1), predictions, scores, images, self.classes, selection, rows
        )

    @staticmethod
    def _is_alike(head: nn.Module) -> bool:
        assert isinstance(head, RoIHeads)
        return is_alike(head, (AgnosticPredictor,))

    def _head(self, index: int) -> RoIHeads:
        head = self.heads[index]
        assert isinstance(head, RoIHeads)
        return head


def build_cascade_rcnn(config: CascadeRCNNConfig, num_classes: int) -> CascadeRCNN:
    """Build a Cascade R-CNN with random heads for ``num_classes`` classes, background excluded."""
    heads = [
        RoIHeads(
            MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
            TwoMLPHead(config.backbone.fpn_channels * 7**2, config.box_head_width),
            _build_predictor(config, num_classes + 1),
            threshold,
            threshold,
            config.box_batch_size_per_image,
            config.box_positive_fraction,
            weights,
            config.box_score_thresh,
            config.box_nms_thresh,
            config.box_detections_per_img,
        )
        for threshold, weights in zip(config.iou_thresholds, HEAD_DELTA_WEIGHTS, strict=True)
    ]
    if config.box_coding == "edges":
        for head, (weight, *_) in zip(heads, HEAD_DELTA_WEIGHTS, strict=True):
            head.box_coder = EdgeCoder(weight)
    frame = Frame(
        levels_of(config.backbone, range(2, 6)),
        ClassOutputs(tuple(range(1, num_classes + 1)), num_classes + 1),
        config.box_nms_thresh,
        config.box_detections_per_img,
    )
    return CascadeRCNN(
        build_transform(config),
        build_backbone(config.backbone, first_level=2),
        frame,
        build_rpn(config),
        heads,
        config.loss_weights,
        config.scoring,
        config.rpn_smooth_l1_beta,
        config.box_smooth_l1_beta,
    )


def _build_predictor(config: CascadeRCNNConfig, outputs: int) -> nn.Module:
    """Return the last layers of a head, for ``outputs`` outputs of the classifier."""
    if config.box_coding == "centre":
        return AgnosticPredictor(config.box_head_width, outputs)
    has_variance = config.box_loss == "kl"
    return EdgePredictor(config.box_head_width, outputs, 1, has_variance=has_variance)
