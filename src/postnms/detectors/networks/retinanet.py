"""RetinaNet (arXiv 1708.02002), made of torchvision's parts.

A new network scores every anchor near 0.01, under the threshold. So for some hundred iterations
there are no candidates: the losses of the stage and their gradients are zero, and the stage starts
to learn when the detector does.
"""

from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from postnms.checks import check_outputs
from postnms.config import Fraction, Positive
from postnms.detectors.config import AnchorSizes, PyramidConfig, SmoothL1Beta
from postnms.detectors.image_batch import ImageBatch
from postnms.detectors.network import Selection
from postnms.detectors.parts import dense_head
from postnms.detectors.parts.assignment import assign
from postnms.detectors.parts.backbone import build_backbone, build_transform, levels_of
from postnms.detectors.parts.classes import ClassOutputs, truths_of
from postnms.detectors.parts.deltas import decode, encode
from postnms.detectors.parts.frame import Frame, FramedNetwork
from postnms.distributed.collectives import CountedLoss
from postnms.structures import Candidates, Targets


class RetinaNetConfig(PyramidConfig):
    """Settings of a RetinaNet on levels P3 to P7."""

    kind: Literal["retinanet"] = "retinanet"
    anchor_sizes: AnchorSizes = (32, 64, 128, 256, 512)
    """One size for each pyramid level, in pixels. Each level also has anchors of 2^(1/3) and
    2^(2/3) times its size."""
    fg_iou_thresh: Fraction = 0.5
    """An anchor is positive from this IoU with an object on."""
    bg_iou_thresh: Fraction = 0.4
    """An anchor is negative below this IoU with every object."""
    smooth_l1_beta: SmoothL1Beta = 0.0
    """Beta of the smooth-L1 loss of the boxes. 0: plain L1. Detectron's baselines have 0.11."""
    topk_candidates: Positive = 1000
    """Largest number of candidates for each level of an image."""
    score_thresh: Fraction = 0.05
    """Candidates score more than this."""
    nms_thresh: Fraction = 0.5
    """NMS suppresses boxes that overlap a key with an IoU over this."""
    detections_per_img: Positive = 100
    """Largest number of detections for each image."""

    @classmethod
    def training_only(cls) -> frozenset[str]:
        """Return the names of the fields that training alone reads."""
        return frozenset({"fg_iou_thresh", "bg_iou_thresh", "smooth_l1_beta"})


class RetinaNet(FramedNetwork):
    """Features and candidates of a RetinaNet.

    The modules are torchvision's and keep its state-dict names. ``smooth_l1_beta`` is that of the
    box loss. None: the box loss that the head itself has.
    """

    class_layers = ("head.classification_head.cls_logits",)

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: nn.Module,
        frame: Frame,
        anchor_generator: AnchorGenerator,
        head: RetinaNetHead,
        matcher: Matcher,
        box_coder: BoxCoder,
        settings: dense_head.DenseSettings,
        smooth_l1_beta: float | None = None,
    ) -> None:
        super().__init__(transform, backbone, frame)
        self.anchor_generator = anchor_generator
        self.head = head
        self.matcher = matcher
        self.box_coder = box_coder
        self.settings = settings
        self.smooth_l1_beta = smooth_l1_beta

    def candidates(
        self,
        features: dict[str, Tensor],
        images: ImageBatch,
        targets: Targets | None = None,
        selection: Selection = Selection(),
    ) -> tuple[Candidates, Mapping[str, Tensor | CountedLoss]]:
        """Return the best (anchor, class) pairs of each level, and with ``targets`` two losses.

        Each loss is a mean over images, each image over its own positive anchors, as in
        torchvision.
        """
        levels = list(features.values())
        outputs = {name: output.float() for name, output in self.head(levels).items()}
        anchors = images.anchors(self.anchor_generator, levels)
        losses = {}
        if targets is None:
            check_outputs("dense head", outputs, features, images.pixels)
        else:
            losses = self._losses(outputs, anchors, truths_of(targets, self.classes))
        outputs = dense_head.run_as_at_test(self.head, levels, outputs, selection)
        scores = self.classes.take(outputs["cls_logits"].sigmoid())
        per_level = dense_head.anchors_per_level(levels, anchors)
        best = dense_head.best_of_levels(scores, per_level, self.settings, selection)
        candidates = dense_head.select_candidates(
            scores, best, outputs, anchors, partial(decode, self.box_coder), images, selection
        )
        return candidates, losses

    def _losses(
        self, outputs: dict[str, Tensor], anchors: list[Tensor], truths: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        matches = assign(self.matcher, anchors, truths)
        if self.smooth_l1_beta is None:
            terms = self.head.compute_loss(truths, outputs, anchors, matches)
            return {f"loss_{name}": loss for name, loss in terms.items()}
        classification = self.head.classification_head.compute_loss(truths, outputs, matches)
        parts = zip(outputs["bbox_regression"], anchors, truths, matches, strict=True)
        location = [self._location_loss(*part, self.smooth_l1_beta) for part in parts]
        return {
            "loss_classification": classification,
            "loss_bbox_regression": torch.stack(location).sum() / len(location),
        }

    def _location_loss(
        self, deltas: Tensor, anchors: Tensor, truth: dict[str, Tensor], match: Tensor, beta: float
    ) -> Tensor:
        """Return smooth-L1 of the deltas (A, 4) of one image, per positive anchor."""
        positive = (match >= 0).nonzero().squeeze(1)
        wanted = encode(self.box_coder, truth["boxes"][match[positive]], anchors[positive])
        loss = F.smooth_l1_loss(deltas[positive], wanted, beta=beta, reduction="sum")
        return loss / max(1, len(positive))


def build_retinanet(config: RetinaNetConfig, num_classes: int) -> RetinaNet:
    """Build a RetinaNet with a random head for ``num_classes`` classes."""
    octaves = [
        tuple(int(size * 2 ** (third / 3)) for third in range(3)) for size in config.anchor_sizes
    ]
    anchors = AnchorGenerator(tuple(octaves), (config.aspect_ratios,) * len(octaves))
    head = RetinaNetHead(
        config.backbone.fpn_channels, anchors.num_anchors_per_location()[0], num_classes
    )
    frame = Frame(
        levels_of(config.backbone, range(3, 8)),
        ClassOutputs(tuple(range(num_classes)), num_classes),
        config.nms_thresh,
        config.detections_per_img,
    )
    return RetinaNet(
        build_transform(config),
        build_backbone(config.backbone, first_level=3),
        frame,
        anchors,
        head,
        Matcher(config.fg_iou_thresh, config.bg_iou_thresh, allow_low_quality_matches=True),
        BoxCoder((1.0, 1.0, 1.0, 1.0)),
        dense_head.DenseSettings(config.topk_candidates, config.score_thresh),
        config.smooth_l1_beta,
    )
