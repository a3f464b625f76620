"""FCOS (arXiv 1904.01355), made of torchvision's parts.

Every cell has one point, and scores are weighted by centerness. It has no settings of its own:
recipes reach it as one of torchvision's models (``postnms.TorchvisionConfig``).

A: points of an image over all levels, m: ground-truth boxes of an image.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from postnms.boxes import area
from postnms.checks import check_outputs
from postnms.detectors.image_batch import ImageBatch
from postnms.detectors.network import Selection
from postnms.detectors.parts import dense_head
from postnms.detectors.parts.classes import truths_of
from postnms.detectors.parts.frame import Frame, FramedNetwork
from postnms.distributed.collectives import CountedLoss, at_least_one_row
from postnms.structures import Candidates, Targets


class FCOS(FramedNetwork):
    """Features and candidates of an FCOS.

    The modules are torchvision's and keep its state-dict names.
    """

    class_layers = ("head.classification_head.cls_logits",)

    def __init__(
        self,
        transform: GeneralizedRCNNTransform,
        backbone: nn.Module,
        frame: Frame,
        anchor_generator: AnchorGenerator,
        head: FCOSHead,
        box_coder: BoxLinearCoder,
        center_sampling_radius: float,
        settings: dense_head.DenseSettings,
    ) -> None:
        super().__init__(transform, backbone, frame)
        self.anchor_generator = anchor_generator
        self.head = head
        self.box_coder = box_coder
        self.center_sampling_radius = center_sampling_radius
        self.settings = settings

    def candidates(
        self,
        features: dict[str, Tensor],
        images: ImageBatch,
        targets: Targets | None = None,
        selection: Selection = Selection(),
    ) -> tuple[Candidates, Mapping[str, Tensor | CountedLoss]]:
        """Return the best (point, class) pairs of each level, and with ``targets`` three losses.

        A score is the geometric mean of the class score and the centerness.
        """
        levels = list(features.values())
        outputs = {name: output.float() for name, output in self.head(levels).items()}
        anchors = images.anchors(self.anchor_generator, levels)
        per_level = dense_head.anchors_per_level(levels, anchors)
        losses = {}
        if targets is None:
            check_outputs("dense head", outputs, features, images.pixels)
        else:
            losses = self._losses(outputs, anchors, per_level, truths_of(targets, self.classes))
        outputs = dense_head.run_as_at_test(self.head, levels, outputs, selection)
        class_scores = self.classes.take(outputs["cls_logits"].sigmoid())
        scores = (class_scores * outputs["bbox_ctrness"].sigmoid()).sqrt()
        best = dense_head.best_of_levels(scores, per_level, self.settings, selection)
        candidates = dense_head.select_candidates(
            scores, best, outputs, anchors, self.box_coder.decode, images, selection
        )
        return candidates, losses

    def _losses(
        self,
        outputs: dict[str, Tensor],
        anchors: list[Tensor],
        per_level: list[int],
        truths: list[dict[str, Tensor]],
    ) -> dict[str, CountedLoss]:
        matches = [
            match_points(part, per_level, truth["boxes"], self.center_sampling_radius)
            for part, truth in zip(anchors, truths, strict=True)
        ]
        positive = sum(int((match >= 0).sum()) for match in matches)
        terms = self.head.compute_loss(truths, outputs, anchors, matches)
        # The head divides by the positive points of this process. The scale makes that the mean
        # over all processes.
        return {
            f"loss_{name}": CountedLoss(
                (positive,),
                lambda mean, loss=loss: max(positive, 1) / at_least_one_row(mean) * loss,
            )
            for name, loss in terms.items()
        }


def match_points(anchors: Tensor, per_level: list[int], boxes: Tensor, radius: float) -> Tensor:
    """Return the row of the smallest box that each point is responsible for (FCOS, section 3.2).

    A point is responsible for a box if it lies in the box, if the centre of the box is less than
    ``radius`` cells away along both axes, and if the farthest side of the box is 4 to 8 cells
    away. The first level has no lower bound and the last level no upper bound on that distance.

    Args:
        anchors: (A, 4), the cells of the points.
        per_level: number of points on each level, in order.
        boxes: (m, 4), the ground truth of the image.
        radius: in cells.

    Returns:
        (A,) int64, -1 for background.
    """
    if not len(boxes):
        return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    points = (anchors[:, :2] + anchors[:, 2:]) / 2
    cell = anchors[:, 2] - anchors[:, 0]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    is_near = (points[:, None] - centres).abs().amax(dim=2) < radius * cell[:, None]
    sides = torch.cat([points[:, None] - boxes[:, :2], boxes[:, 2:] - points[:, None]], dim=2)
    least = 4 * cell
    most = 8 * cell
    least[: per_level[0]] = 0
    most[-per_level[-1] :] = torch.inf
    farthest = sides.amax(dim=2)  # (A, m)
    is_inside = sides.amin(dim=2) > 0
    fits_level = (farthest > least[:, None]) & (farthest < most[:, None])
    responsible = is_near & is_inside & fits_level
    smallest = torch.where(responsible, area(boxes), torch.inf).min(dim=1)
    return torch.where(smallest.values.isinf(), -1, smallest.indices)
