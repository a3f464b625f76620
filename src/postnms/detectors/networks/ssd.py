"""SSD (arXiv 1512.02325) and SSDlite of torchvision's parts: images of one size, levels of unequal width.

A: anchors of an image over all levels, C: classes and the background, which comes first.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from postnms.detectors.image_batch import ImageBatch, prepare_images
from postnms.detectors.network import Selection
from postnms.detectors.parts import dense_head as dense
from postnms.detectors.parts.assignment import assign, boxes_of, labels_of
from postnms.detectors.parts.backbone import pyramid
from postnms.detectors.parts.classes import Columns, truths_of
from postnms.distributed.collectives import divisor
from postnms.structures import Candidates, Level, Targets


class SSD(nn.Module):
    """Features and candidates of an SSD; the modules are torchvision's and keep its state-dict names."""

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: nn.Module,
        anchor_generator: DefaultBoxGenerator,
        head: nn.Module,
        matcher: Matcher,
        box_coder: BoxCoder,
        negatives_per_positive: float,
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
        self.negatives_per_positive = negatives_per_positive
        self.levels, self.columns, self.num_classes = levels, columns, len(columns)
        self.nms_threshold, self.max_detections = settings.nms_thresh, settings.detections_per_img

    def prepare(self, images: Sequence[Tensor]) -> ImageBatch:
        """Images as given -> normalised, resized to the one size."""
        return prepare_images(self.transform, images)

    def features(self, images: ImageBatch) -> dict[str, Tensor]:
        """Feature maps (B, C, H, W) by name."""
        return pyramid(self.backbone, images.pixels)

    def candidates(
        self,
        features: dict[str, Tensor],
        images: ImageBatch,
        targets: Targets | None = None,
        selection: Selection = Selection(),
    ) -> tuple[Candidates, dict[str, Tensor]]:
        """The best anchors of each class over the score threshold, and with ``targets`` the two losses of training."""
        levels = list(features.values())
        outputs = {name: output.float() for name, output in self.head(levels).items()}
        anchors = images.anchors(self.anchor_generator, levels)
        losses = (
            {}
            if targets is None
            else self._losses(outputs, anchors, truths_of(targets, self.columns))
        )
        outputs = dense.run_as_at_test(self.head, levels, outputs, selection)
        scores = self.columns.take(outputs["cls_logits"].softmax(dim=2))
        best = dense.best_of_classes(scores, self.settings, selection)
        decode = self.box_coder.decode_single
        return dense.select(
            scores, best, outputs["bbox_regression"], anchors, decode, images, selection
        ), losses

    def _losses(
        self, outputs: dict[str, Tensor], anchors: list[Tensor], truths: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Smooth-L1 of positive anchors, cross-entropy of these and of the hardest negative ones (section 2.2)."""
        matches = assign(self.matcher, anchors, truths)
        labels = torch.stack(
            [labels_of(match, truth) for match, truth in zip(matches, truths, strict=True)]
        )
        matched = [boxes_of(match, truth) for match, truth in zip(matches, truths, strict=True)]
        wanted = torch.stack(self.box_coder.encode(matched, anchors))
        positive = labels > 0
        entropy = F.cross_entropy(
            outputs["cls_logits"].transpose(1, 2), labels, reduction="none"
        )  # (B, A)
        hardness = entropy.detach().masked_fill(positive, -torch.inf)
        rank = hardness.argsort(dim=1, descending=True).argsort(dim=1)
        hard = rank < self.negatives_per_positive * positive.sum(dim=1, keepdim=True)
        location = F.smooth_l1_loss(
            outputs["bbox_regression"][positive], wanted[positive], reduction="sum"
        )
        count = divisor(int(positive.sum()), labels.device)
        classification = entropy[positive].sum() + entropy[hard].sum()
        return {
            "loss_bbox_regression": location / count,
            "loss_classification": classification / count,
        }
