"""The post-NMS stage: training rows in, losses out; clusters in, detections out (paper: sections 3.2 to 3.4).

B: images, k: clusters, r: training rows, d: detections.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from postnms.boxes import clip, decode_deltas, encode_deltas
from postnms.clustering import representative_boxes
from postnms.losses import beta, classification_loss, location_loss
from postnms.ops.roi_align import pool_pyramid
from postnms.stage.config import StageConfig
from postnms.stage.decoupling import DecouplingLayer
from postnms.stage.fusion import fuse
from postnms.stage.heads import POOLED_SIDE, StageHeads
from postnms.stage.rows import training_rows
from postnms.structures import Clusters, Detections, Targets, take, top_per_image
from postnms.suppression.greedy import keep_keys

Sizes = Sequence[tuple[int, int]]
"""(height, width) in pixels of each image as the network saw it, padding apart."""
ROW_MULTIPLE = 64
"""In training on a CPU rows are filled up to a multiple: each new shape of a bfloat16 product costs milliseconds."""


class PostNMSStage(nn.Module):
    """Re-scores and re-locates what NMS kept. ``levels``: names of the pyramid levels that RoIs are pooled from."""

    def __init__(self, config: StageConfig, in_channels: int, num_classes: int, levels: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        channels = (config.channels or in_channels) if config.decoupling else in_channels
        self.levels = list(levels)
        self.decoupling = DecouplingLayer(in_channels, channels) if config.decoupling else None
        self.heads = StageHeads(channels, num_classes, config)

    def losses(
        self, features: dict[str, Tensor], sizes: Sizes, clusters: Clusters, targets: Targets
    ) -> dict[str, Tensor]:
        """L_cls and L_loc as they are added to the detector's losses: divided by the rows, multiplied by beta.

        Without rows both are zeros that a gradient can pass through.
        """
        rows = training_rows(clusters, targets, self.config)
        logits, deltas = self(features, sizes, rows.boxes, rows.image, rows.labels)
        wanted = encode_deltas(rows.boxes, rows.truths, self.config.delta_weights)
        weight = beta(clusters) if self.config.beta == "ratio" else self.config.beta
        scale = weight / max(len(rows.boxes), 1)
        return {
            "loss_stage_cls": scale * classification_loss(logits, rows.positive, rows.w_cls),
            "loss_stage_loc": scale * location_loss(deltas, wanted, rows.w_loc, self.config.smooth_l1_beta),
        }

    def detect(self, features: dict[str, Tensor], sizes: Sizes, clusters: Clusters, max_detections: int) -> Detections:
        """The keys that NMS keeps, ``max_detections`` an image, with the stage's scores and boxes."""
        kept, chosen = keep_keys(clusters, max_detections)
        representatives = representative_boxes(clusters, self.config.representative)[chosen]
        boxes = torch.cat([kept.boxes, representatives]) if self.config.representative_rows else kept.boxes
        times = len(boxes) // max(len(kept.boxes), 1)
        logits, deltas = self(features, sizes, boxes, kept.image.repeat(times), kept.labels.repeat(times))
        count = len(kept.boxes)
        s_obj = logits[:count].sigmoid()
        s_clu = logits[count:].sigmoid() if self.config.representative_rows else s_obj
        scores = fuse(kept.scores, s_clu, s_obj, self.config.fusion)
        moved = self._relocate(kept.boxes, deltas[:count], kept.image, sizes)
        order = top_per_image(scores, kept.image, len(sizes), max_detections)
        rescored = Detections(moved, scores, kept.labels, kept.image, kept.source, len(sizes))
        return take(rescored, order)

    def forward(
        self, features: dict[str, Tensor], sizes: Sizes, boxes: Tensor, image: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Objectness logits (r,) and refinement deltas (r, 4) of any boxes (r, 4) with an image and a class each."""
        levels = {name: features[name] for name in self.levels}
        if self.decoupling is not None:
            levels = self.decoupling(levels)
        count = len(boxes)
        spare = -count % ROW_MULTIPLE if self.training and boxes.device.type == "cpu" else 0
        boxes, image, labels = pad(boxes, (0, 0, 0, spare)), pad(image, (0, spare)), pad(labels, (0, spare))
        logits, deltas = self.heads(pool_pyramid(levels, boxes, image, sizes, POOLED_SIDE), labels)
        return logits[:count], deltas[:count]

    def _relocate(self, boxes: Tensor, deltas: Tensor, image: Tensor, sizes: Sizes) -> Tensor:
        if not self.config.relocation:
            return boxes
        moved = decode_deltas(boxes, deltas, self.config.delta_weights)
        return clip(moved, torch.tensor(sizes, device=boxes.device).view(-1, 2)[image])
