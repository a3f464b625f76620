"""FCOS (arXiv 1904.01355) of torchvision's parts: one point a cell, scores weighted by centerness.

A: points of an image over all levels, m: ground-truth boxes of an image.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from postnms.boxes import area
from postnms.detectors.image_batch import ImageBatch, prepare_images
from postnms.detectors.network import Selection
from postnms.detectors.parts import dense_head as dense
from postnms.detectors.parts.backbone import pyramid
from postnms.detectors.parts.classes import Columns, truths_of
from postnms.distributed.collectives import divisor
from postnms.structures import Candidates, Level, Targets


class FCOS(nn.Module):
    """Features and candidates of an FCOS; the modules are torchvision's and keep its state-dict names."""

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: nn.Module,
        anchor_generator: AnchorGenerator,
        head: FCOSHead,
        box_coder: BoxLinearCoder,
        center_sampling_radius: float,
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
        self.box_coder, self.center_sampling_radius, self.settings = (
            box_coder,
            center_sampling_radius,
            settings,
        )
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
        """The best (point, class) pairs of each level, and with ``targets`` the three losses of training.

        Scores are the geometric mean of class score and centerness.
        """
        levels = list(features.values())
        outputs = {name: output.float() for name, output in self.head(levels).items()}
        anchors = images.anchors(self.anchor_generator, levels)
        per_level = dense.anchors_per_level(levels, anchors)
        losses = {}
        if targets is not None:
            losses = self._losses(outputs, anchors, per_level, truths_of(targets, self.columns))
        outputs = dense.run_as_at_test(self.head, levels, outputs, selection)
        scores = (
            self.columns.take(outputs["cls_logits"].sigmoid()) * outputs["bbox_ctrness"].sigmoid()
        ).sqrt()
        best = dense.best_of_levels(scores, per_level, self.settings, selection)
        decode = self.box_coder.decode
        return dense.select(
            scores, best, outputs["bbox_regression"], anchors, decode, images, selection
        ), losses

    def _losses(
        self,
        outputs: dict[str, Tensor],
        anchors: list[Tensor],
        per_level: list[int],
        truths: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        radius = self.center_sampling_radius
        matches = [
            match_points(part, per_level, truth["boxes"], radius)
            for part, truth in zip(anchors, truths, strict=True)
        ]
        own = sum(int((match >= 0).sum()) for match in matches)
        scale = max(own, 1) / divisor(
            own, anchors[0].device
        )  # the head's own mean is over this process alone
        found = self.head.compute_loss(truths, outputs, anchors, matches)
        return {f"loss_{name}": scale * loss for name, loss in found.items()}


def match_points(anchors: Tensor, per_level: list[int], boxes: Tensor, radius: float) -> Tensor:
    """(A,) int64: the row of the smallest box that each point is responsible for, -1 for background (section 3.2).

    A point is responsible for boxes that it lies in, whose centre is less than ``radius`` cells away along both axes,
    and whose farthest side is 4 to 8 cells away, with no lower bound on the first level and no upper one on the last.
    Anchors (A, 4) are the cells.
    """
    if not len(boxes):
        return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    points, cell = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2] - anchors[:, 0]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = (points[:, None] - centres).abs().amax(dim=2) < radius * cell[:, None]
    sides = torch.cat(
        [points[:, None] - boxes[:, :2], boxes[:, 2:] - points[:, None]], dim=2
    )  # (A, m, 4)
    least, most = 4 * cell, 8 * cell
    least[: per_level[0]] = 0
    most[-per_level[-1] :] = torch.inf
    farthest = sides.amax(dim=2)
    responsible = (
        near & (sides.amin(dim=2) > 0) & (farthest > least[:, None]) & (farthest < most[:, None])
    )
    smallest = torch.where(responsible, area(boxes), torch.inf).min(dim=1)
    return torch.where(smallest.values.isinf(), -1, smallest.indices)
