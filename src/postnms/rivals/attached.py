"""The heads of a detector that look at every candidate, and the rows that follow from them.

B: images.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from postnms.checks import check_outputs
from postnms.distributed.collectives import CountedLoss
from postnms.rivals.config import ADAPTIVE_ROW, IOU_GUIDED_ROW, IOU_NET_ROW, HeadsConfig
from postnms.rivals.density import DensityHead
from postnms.rivals.iou_net import IoUHead
from postnms.rivals.jitter import move_truths
from postnms.structures import Candidates, Detections, Level, Targets, derive
from postnms.suppression.greedy import AdaptiveNMS, IoUGuidedNMS

BOXES_AT_ONCE = 2048
"""Number of candidates that a head looks at together."""


class CandidateHeads(nn.Module):
    """Heads beside the stage. Each gives an extra column of the candidates, and rows of results.

    Args:
        config: which heads there are.
        levels: the pyramid levels that boxes are pooled from, by name, from fine to coarse.
        num_classes: number of classes, without a background class.
    """

    def __init__(self, config: HeadsConfig, levels: Mapping[str, Level], num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.iou = None if config.iou is None else IoUHead(config.iou, levels, num_classes)
        self.density = (
            None if config.density is None else DensityHead(config.density, levels, num_classes)
        )

    @property
    def columns(self) -> dict[str, IoUHead | DensityHead]:
        """Each head by the name of the column that it gives."""
        heads = {"iou": self.iou, "density": self.density}
        return {name: head for name, head in heads.items() if head is not None}

    @property
    def class_layers(self) -> tuple[str, ...]:
        """Names of the layers that have an output for each class."""
        return tuple(f"{name}.output" for name in self.columns)

    @property
    def row_names(self) -> tuple[str, ...]:
        """Names of the rows, in their order."""
        return self.config.rows

    def counted_losses(
        self,
        features: Mapping[str, Tensor],
        sizes: Sequence[tuple[int, int]],
        targets: Targets,
        generators: Sequence[torch.Generator] | None = None,
    ) -> dict[str, CountedLoss]:
        """Return ``loss_iou`` and ``loss_density``, as far as there are the heads.

        Args:
            features: feature maps (B, C, H, W) by name, among them the levels of the heads.
            sizes: (height, width) of each image of the network's input, without padding.
            targets: the ground truth in the same pixels.
            generators: the source of the random draws for each image. None: torch's own generator.
        """
        moved = move_truths(targets, sizes, self.config.samples, self.config.draws, generators)
        return {
            f"loss_{name}": head.loss(features, moved, targets)
            for name, head in self.columns.items()
        }

    def judge(self, features: Mapping[str, Tensor], candidates: Candidates) -> Candidates:
        """Return candidates of the batch with one more column for each head.

        The predicted IoU is the column ``iou``, the predicted density ``density``.

        Raises UserError if a head gives values that are not finite.
        """
        given = (candidates.boxes, candidates.image, candidates.labels)
        chunks = list(zip(*(column.split(BOXES_AT_ONCE) for column in given), strict=True))
        columns = {
            name: torch.cat([head(features, *chunk) for chunk in chunks]).detach()
            for name, head in self.columns.items()
        }
        check_outputs("heads", columns, dict(features))
        return derive(candidates, extra={**candidates.extra, **columns})

    def rows(
        self,
        features: Mapping[str, Tensor],
        sizes: Sequence[tuple[int, int]],
        candidates: Candidates,
        iou_threshold: float,
        max_detections: int,
    ) -> dict[str, Detections]:
        """Return the results that the columns lead to, by name, in the order of ``row_names``.

        Args:
            features: feature maps (B, C, H, W) by name, among them the levels of the heads.
            sizes: (height, width) of each image of the network's input. Boxes are clipped to it.
            candidates: what :meth:`judge` has returned.
            iou_threshold: a kept box suppresses boxes with an IoU over this.
            max_detections: largest number of detections of each image.
        """
        settings = {"iou_threshold": iou_threshold, "max_detections": max_detections}
        rows = {}
        if self.iou is not None:
            rows[IOU_GUIDED_ROW] = IoUGuidedNMS(**settings)(candidates)
            if self.iou.config.refine_steps:
                rows[IOU_NET_ROW] = self.iou.refine(features, sizes, rows[IOU_GUIDED_ROW])
        if self.density is not None:
            rows[ADAPTIVE_ROW] = AdaptiveNMS(**settings)(candidates)
        return rows
