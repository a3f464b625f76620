"""RetinaNet (arXiv 1708.02002), composed of torchvision's parts.

A new network scores every anchor near 0.01, under the threshold, so for some hundred iterations there are no
candidates: the stage's losses and their gradients are then zero, and it starts to learn when the detector does.

K: classes; there is no background among a classifier's outputs.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from postnms.config import Fraction, Positive
from postnms.detectors.config import AnchorSizes, PyramidConfig
from postnms.detectors.image_batch import ImageBatch, build_transform, prepare_images
from postnms.detectors.network import Selection
from postnms.detectors.parts import dense_head as dense
from postnms.detectors.parts.assignment import assign
from postnms.detectors.parts.backbone import build_backbone, levels_of, pyramid
from postnms.detectors.parts.classes import Columns, truths_of
from postnms.structures import Candidates, Level, Targets


class RetinaNetConfig(PyramidConfig):
    """RetinaNet on levels P3 to P7."""

    kind: Literal["retinanet"] = "retinanet"
    anchor_sizes: AnchorSizes = (32, 64, 128, 256, 512)
    """One a pyramid level, in pixels; each level also has anchors of 2^(1/3) and 2^(2/3) times the size."""
    fg_iou_thresh: Fraction = 0.5
    bg_iou_thresh: Fraction = 0.4
    topk_candidates: Positive = 1000
    """Of each level."""
    score_thresh: Fraction = 0.05
    nms_thresh: Fraction = 0.5
    detections_per_img: Positive = 100


class RetinaNet(nn.Module):
    """Features and candidates of a RetinaNet; the modules are torchvision's and keep its state-dict names."""

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: nn.Module,
        anchor_generator: AnchorGenerator,
        head: RetinaNetHead,
        matcher: Matcher,
        box_coder: BoxCoder,
        settings: dense.DenseSettings,
        levels: Mapping[str, Level],
        columns: Columns,
    ) -> None:
        super().__init__()
        self.transform, self.backbone, self.anchor_generator, self.head = (
            transform,
            backbone,
            anchor_generator,
            head,
        )
        self.matcher, self.box_coder, self.settings = matcher, box_coder, settings
        self.levels, self.columns, self.num_classes = levels, columns, len(columns)
        self.nms_threshold, self.max_detections = settings.nms_thresh, settings.detections_per_img

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
        """The best (anchor, class) pairs of each level, and with ``targets`` the two losses of training.

        The losses are means over images, each over its own positive anchors, as in torchvision.
        """
        levels = list(features.values())
        outputs = {name: output.float() for name, output in self.head(levels).items()}
        anchors = images.anchors(self.anchor_generator, levels)
        losses = {}
        if targets is not None:
            truths = truths_of(targets, self.columns)
            found = self.head.compute_loss(
                truths, outputs, anchors, assign(self.matcher, anchors, truths)
            )
            losses = {f"loss_{name}": loss for name, loss in found.items()}
        outputs = dense.run_as_at_test(self.head, levels, outputs, selection)
        scores = self.columns.take(outputs["cls_logits"].sigmoid())
        best = dense.best_of_levels(
            scores, dense.anchors_per_level(levels, anchors), self.settings, selection
        )
        decode = self.box_coder.decode_single
        return dense.select(
            scores, best, outputs["bbox_regression"], anchors, decode, images, selection
        ), losses


def build_retinanet(config: RetinaNetConfig, num_classes: int) -> RetinaNet:
    """A RetinaNet with a random head for ``num_classes`` classes."""
    octaves = [
        tuple(int(size * 2 ** (third / 3)) for third in range(3)) for size in config.anchor_sizes
    ]
    anchors = AnchorGenerator(tuple(octaves), (config.aspect_ratios,) * len(octaves))
    head = RetinaNetHead(
        config.backbone.fpn_channels, anchors.num_anchors_per_location()[0], num_classes
    )
    return RetinaNet(
        build_transform(config),
        build_backbone(config.backbone, first_level=3),
        anchors,
        head,
        Matcher(config.fg_iou_thresh, config.bg_iou_thresh, allow_low_quality_matches=True),
        BoxCoder((1.0, 1.0, 1.0, 1.0)),
        dense.DenseSettings(
            config.topk_candidates,
            config.score_thresh,
            config.nms_thresh,
            config.detections_per_img,
        ),
        levels_of(config.backbone, range(3, 8)),
        Columns(tuple(range(num_classes))),
    )
