"""SSD (arXiv 1512.02325), made of torchvision's parts.

Its images have one size and its levels unequal widths. It has no settings of its own: recipes
reach it as one of torchvision's models (``postnms.TorchvisionConfig``).

A: anchors of an image over all levels, B: images.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from postnms.checks import check_outputs
from postnms.detectors.image_batch import ImageBatch
from postnms.detectors.network import Selection
from postnms.detectors.parts import dense_head
from postnms.detectors.parts.assignment import assign, boxes_of, labels_of
from postnms.detectors.parts.classes import truths_of
from postnms.detectors.parts.deltas import decode, encode
from postnms.detectors.parts.frame import Frame, FramedNetwork
from postnms.distributed.collectives import CountedLoss, mean_over_rows
from postnms.structures import Candidates, Targets


class SSD(FramedNetwork):
    """Features and candidates of an SSD.

    The modules are torchvision's and keep its state-dict names.
    """

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: nn.Module,
        frame: Frame,
        anchor_generator: DefaultBoxGenerator,
        head: nn.Module,
        matcher: Matcher,
        box_coder: BoxCoder,
        negatives_per_positive: float,
        settings: dense_head.DenseSettings,
    ) -> None:
        super().__init__(transform, backbone, frame)
        scores = "head.classification_head.module_list"
        # In SSDlite each level has a depthwise convolution before that of the classes.
        is_lite = isinstance(head.get_submodule("classification_head.module_list.0"), nn.Sequential)
        self.class_layers = (f"{scores}.*.1" if is_lite else f"{scores}.*",)
        self.anchor_generator = anchor_generator
        self.head = head
        self.matcher = matcher
        self.box_coder = box_coder
        self.negatives_per_positive = negatives_per_positive
        self.settings = settings

    def candidates(
        self,
        features: dict[str, Tensor],
        images: ImageBatch,
        targets: Targets | None = None,
        selection: Selection = Selection(),
    ) -> tuple[Candidates, Mapping[str, Tensor | CountedLoss]]:
        """Return the best anchors of each class, and with ``targets`` the two losses."""
        levels = list(features.values())
        outputs = {name: output.float() for name, output in self.head(levels).items()}
        anchors = images.anchors(self.anchor_generator, levels)
        losses = {}
        if targets is None:
            check_outputs("dense head", outputs, features, images.pixels)
        else:
            losses = self._losses(outputs, anchors, truths_of(targets, self.classes))
        outputs = dense_head.run_as_at_test(self.head, levels, outputs, selection)
        scores = self.classes.take(outputs["cls_logits"].softmax(dim=2))
        best = dense_head.best_of_classes(scores, self.settings, selection)
        candidates = dense_head.select_candidates(
            scores, best, outputs, anchors, partial(decode, self.box_coder), images, selection
        )
        return candidates, losses

    def _losses(
        self, outputs: dict[str, Tensor], anchors: list[Tensor], truths: list[dict[str, Tensor]]
    ) -> dict[str, CountedLoss]:
        """Return smooth-L1 of the positive anchors, and cross-entropy with hard negatives.

        Cross-entropy counts the positive anchors and the hardest negative ones (SSD, section 2.2).
        """
        matches = assign(self.matcher, anchors, truths)
        pairs = list(zip(matches, truths, strict=True))
        labels = torch.stack([labels_of(match, truth) for match, truth in pairs])
        matched = [boxes_of(match, truth) for match, truth in pairs]
        deltas = encode(self.box_coder, torch.cat(matched), torch.cat(anchors))
        deltas = deltas.view(*labels.shape, 4)
        positive = labels > 0
        entropy = F.cross_entropy(  # (B, A)
            outputs["cls_logits"].transpose(1, 2), labels, reduction="none"
        )
        # Sorting twice gives the rank of each negative anchor by its own entropy.
        hardness = entropy.detach().masked_fill(positive, -torch.inf)
        rank = hardness.argsort(dim=1, descending=True).argsort(dim=1)
        hard = rank < self.negatives_per_positive * positive.sum(dim=1, keepdim=True)
        location = F.smooth_l1_loss(
            outputs["bbox_regression"][positive], deltas[positive], reduction="sum"
        )
        count = int(positive.sum())
        classification = entropy[positive].sum() + entropy[hard].sum()
        return {
            "loss_bbox_regression": mean_over_rows(location, count),
            "loss_classification": mean_over_rows(classification, count),
        }
