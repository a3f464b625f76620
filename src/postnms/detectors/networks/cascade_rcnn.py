"""Cascade R-CNN (arXiv 1712.00726): three heads in a loop, each trained on what the one before moved its boxes to.

Boxes are sampled once, for the first head; the heads after it take all of them, matched at a higher IoU. Box deltas
serve all classes. C: classes and the background, p: boxes of all images.
"""

from collections.abc import Mapping, Sequence
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
from postnms.detectors.config import TwoStageConfig
from postnms.detectors.image_batch import ImageBatch, build_transform, prepare_images
from postnms.detectors.modes import as_at_test
from postnms.detectors.network import Selection
from postnms.detectors.parts import box_head
from postnms.detectors.parts.backbone import build_backbone, levels_of, pyramid
from postnms.detectors.parts.box_head import Predictions
from postnms.detectors.parts.classes import Columns, truths_of
from postnms.detectors.parts.proposals import build_rpn, propose
from postnms.structures import Candidates, Level, Targets

Scoring = Literal["last", "mean"]
Weight = Annotated[float, Field(ge=0)]
DELTA_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
"""Of the box deltas of each head."""


class CascadeRCNNConfig(TwoStageConfig):
    """Cascade R-CNN with a feature pyramid."""

    kind: Literal["cascade_rcnn"] = "cascade_rcnn"
    iou_thresholds: tuple[Fraction, Fraction, Fraction] = (0.5, 0.6, 0.7)
    """A box is positive for a head from this IoU on."""
    loss_weights: tuple[Weight, Weight, Weight] = (1.0, 0.5, 0.25)
    """Of the losses of each head."""
    scoring: Scoring = "last"
    """Scores of the last head, the paper's "(3)", or the mean of all on the last head's boxes, "(1~3)"; the same
    weights serve both."""


class AgnosticPredictor(nn.Module):
    """Class logits (p, C) and one set of box deltas (p, 4)."""

    def __init__(self, in_channels: int, outputs: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, outputs)
        self.bbox_pred = nn.Linear(in_channels, 4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (p, in_channels) of a box head."""
        return self.cls_score(features), self.bbox_pred(features)


class CascadeRCNN(nn.Module):
    """Features and candidates of a Cascade R-CNN."""

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: nn.Module,
        rpn: RegionProposalNetwork,
        heads: Sequence[RoIHeads],
        loss_weights: Sequence[float],
        scoring: Scoring,
        levels: Mapping[str, Level],
        columns: Columns,
    ) -> None:
        super().__init__()
        self.transform, self.backbone, self.rpn, self.heads = (
            transform,
            backbone,
            rpn,
            nn.ModuleList(heads),
        )
        self.loss_weights, self.scoring = loss_weights, scoring
        self.levels, self.columns, self.num_classes = levels, columns, len(columns)
        self.nms_threshold, self.max_detections = heads[-1].nms_thresh, heads[-1].detections_per_img

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
        """Boxes of the last head over the score threshold, and with ``targets`` the losses of training.

        With targets, candidates are the step's own proposals without injected ground truth, through all heads under
        no-grad as at test time, or what the losses were sampled from, as ``selection.origin`` says.
        """
        truths = None if targets is None else truths_of(targets, self.columns)
        proposals, losses = propose(self.rpn, images, features, truths)
        if truths is None:
            return self._select(self._run(features, proposals, images), images, selection), losses
        sample = box_head.sample(self._head(0), proposals, truths, images.generators)
        rows, found = sample.rows, self._predict(0, features, sample.boxes)
        losses |= self._losses(0, found, sample)
        for index in range(1, len(self.heads)):
            sample = box_head.match(
                self._head(index), self._moved(index - 1, found, images), truths
            )
            found = self._predict(index, features, sample.boxes)
            losses |= self._losses(index, found, sample)
        if selection.origin == "sampled":
            return self._select(found, images, selection, rows), losses
        if selection.origin == "none":
            proposals = [part[:0] for part in proposals]
        with as_at_test(self.heads):
            return self._select(self._run(features, proposals, images), images, selection), losses

    def _run(
        self, features: dict[str, Tensor], boxes: list[Tensor], images: ImageBatch
    ) -> Predictions:
        """Boxes of each image through all heads; what the last says."""
        found = self._predict(0, features, boxes)
        for index in range(1, len(self.heads)):
            found = self._predict(index, features, self._moved(index - 1, found, images))
        return found

    def _predict(self, index: int, features: dict[str, Tensor], boxes: list[Tensor]) -> Predictions:
        return box_head.predict(self._head(index), features, self.levels, boxes)

    def _losses(self, index: int, found: Predictions, sample: box_head.Sample) -> dict[str, Tensor]:
        classifier, location = box_head.losses(found, sample)
        weight, number = self.loss_weights[index], index + 1
        return {
            f"loss_classifier_{number}": weight * classifier,
            f"loss_box_reg_{number}": weight * location,
        }

    def _moved(self, index: int, found: Predictions, images: ImageBatch) -> list[Tensor]:
        """The boxes of each image as head ``index`` moved them, constants."""
        row = torch.arange(len(found.logits), device=found.logits.device)
        moved = box_head.decode(self._head(index), found, row, torch.zeros_like(row), images)
        finite = torch.isfinite(moved).all(
            dim=1, keepdim=True
        )  # where it is not, the losses will tell
        moved = torch.where(finite, moved, torch.cat(found.boxes))
        return list(moved.split([len(part) for part in found.boxes]))

    def _select(
        self,
        found: Predictions,
        images: ImageBatch,
        selection: Selection,
        rows: list[Tensor] | None = None,
    ) -> Candidates:
        scores = found.logits.detach().softmax(dim=1)
        if self.scoring == "mean":
            with torch.no_grad():
                earlier = [
                    box_head.score_pooled(self._head(i), found.pooled)[0]
                    for i in range(len(self.heads) - 1)
                ]
            scores = torch.stack([*(logits.softmax(dim=1) for logits in earlier), scores]).mean(
                dim=0
            )
        return box_head.select(self._head(-1), found, scores, images, self.columns, selection, rows)

    def _head(self, index: int) -> RoIHeads:
        head = self.heads[index]
        assert isinstance(head, RoIHeads)
        return head


def build_cascade_rcnn(config: CascadeRCNNConfig, num_classes: int) -> CascadeRCNN:
    """A Cascade R-CNN with random heads for ``num_classes`` classes, background not counted."""
    heads = [
        RoIHeads(
            MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
            TwoMLPHead(config.backbone.fpn_channels * 7**2, config.box_head_width),
            AgnosticPredictor(config.box_head_width, num_classes + 1),
            threshold,
            threshold,
            config.box_batch_size_per_image,
            config.box_positive_fraction,
            weights,
            config.box_score_thresh,
            config.box_nms_thresh,
            config.box_detections_per_img,
        )
        for threshold, weights in zip(config.iou_thresholds, DELTA_WEIGHTS, strict=True)
    ]
    return CascadeRCNN(
        build_transform(config),
        build_backbone(config.backbone, first_level=2),
        build_rpn(config),
        heads,
        config.loss_weights,
        config.scoring,
        levels_of(config.backbone, range(2, 6)),
        Columns(tuple(range(1, num_classes + 1))),
    )
