"""The post-NMS stage: training rows in, losses out; clusters in, detections out (paper: sections 3.2 to 3.4).

B: images, k: clusters, r: training rows, d: detections.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from postnms.boxes import clip, decode_deltas, encode_deltas
from postnms.clustering import keep_keys, representative_boxes
from postnms.distributed.collectives import divisor, mean_over_processes
from postnms.errors import UserError
from postnms.ops.pooling.roi_align import pool_pyramid
from postnms.stage.config import StageConfig
from postnms.stage.decoupling import DecouplingLayer, Pooler
from postnms.stage.heads import POOLED_SIDE, StageHeads
from postnms.stage.losses import beta, classification_loss, location_loss
from postnms.stage.training_rows import training_rows
from postnms.structures import Candidates, Clusters, Detections, Level, Targets, take, top_per_image

Sizes = Sequence[tuple[int, int]]
"""(height, width) in pixels of each image as the network saw it, padding apart."""
UNEQUAL_CHANNELS = 256
"""Channels of the decoupling layer's output, unless set, where the levels' own differ."""
ROW_MULTIPLE = 64
"""In training in bfloat16 on a CPU rows are filled up to a multiple: each new shape of a product costs milliseconds."""

ROWS_AT_ONCE = 2048
"""Where there is no end to them, as of all candidates of a batch at a low score threshold."""


class PostNMSStage(nn.Module):
    """Re-scores and re-locates what NMS kept. ``levels``: those that RoIs are pooled from, by name, fine first."""

    def __init__(self, config: StageConfig, levels: Mapping[str, Level], num_classes: int) -> None:
        super().__init__()
        self.config, self.levels = config, dict(levels)
        widths = {level.channels for level in levels.values()}
        if len(widths) > 1 and not config.decoupling:
            raise UserError(
                f"stage.decoupling: levels of {sorted(widths)} channels need it, got false"
            )
        width = widths.pop() if len(widths) == 1 else UNEQUAL_CHANNELS
        channels = (config.channels or width) if config.decoupling else width
        self.decoupling = DecouplingLayer(levels, channels) if config.decoupling else None
        self.heads = StageHeads(channels, num_classes, config)

    def losses(
        self, features: dict[str, Tensor], clusters: Clusters, targets: Targets
    ) -> dict[str, Tensor]:
        """L_cls and L_loc as they are added to the detector's losses: divided by the rows, multiplied by beta.

        Both counts and beta are of the batch of all processes. Without rows, as in the first iterations of a
        detector that is not yet sure of anything, both are zeros that a gradient can pass through.
        """
        rows = training_rows(clusters, targets, self.config)
        logits, deltas = self(features, rows.boxes, rows.image, rows.labels)
        wanted = encode_deltas(rows.boxes, rows.truths, self.config.delta_weights)
        wanted = torch.where(
            rows.positive[:, None], wanted, 0.0
        )  # a negative row may have no area: 0/0
        counts = (len(clusters.keys), len(clusters.assignment))
        ratio = beta(*mean_over_processes(counts, rows.boxes.device))
        scale = (ratio if self.config.beta == "ratio" else self.config.beta) / divisor(
            len(rows.boxes), logits.device
        )
        return {
            "loss_stage_cls": scale * classification_loss(logits, rows.positive, rows.w_cls),
            "loss_stage_loc": scale
            * location_loss(deltas, wanted, rows.w_loc, self.config.smooth_l1_beta),
        }

    def detect(
        self, features: dict[str, Tensor], sizes: Sizes, clusters: Clusters, max_detections: int
    ) -> Detections:
        """The keys that NMS keeps, ``max_detections`` an image, with the stage's scores and boxes."""
        kept, chosen = keep_keys(clusters, max_detections)
        count, representatives = len(kept.boxes), kept.boxes
        if self.config.representative_rows:
            representatives = representative_boxes(clusters, self.config.representative)[chosen]
        apart = (representatives != kept.boxes).any(
            dim=1
        )  # a box alone in its cluster needs no second look
        boxes = torch.cat([kept.boxes, representatives[apart]])
        image, labels = (
            torch.cat([kept.image, kept.image[apart]]),
            torch.cat([kept.labels, kept.labels[apart]]),
        )
        logits, deltas = self(features, boxes, image, labels, refined=count)
        s_obj = logits[:count].sigmoid()
        s_clu = s_obj.masked_scatter(apart, logits[count:].sigmoid())
        scores = fuse(kept.scores, s_clu, s_obj, self.config.fusion)
        moved = self._relocate(kept.boxes, deltas, kept.image, sizes)
        order = top_per_image(scores, kept.image, len(sizes), max_detections)
        rescored = Detections(moved, scores, kept.labels, kept.image, kept.source, len(sizes))
        return take(rescored, order)

    def refine(self, features: dict[str, Tensor], sizes: Sizes, candidates: Candidates) -> Tensor:
        """(n, 4): where the stage would move each candidate if it were a key."""
        boxes, image = candidates.boxes, candidates.image
        pool = self._pooler(features, len(boxes))
        columns = zip(
            *(column.split(ROWS_AT_ONCE) for column in (boxes, image, candidates.labels)),
            strict=True,
        )
        deltas = torch.cat([self._predict(pool, *rows)[1] for rows in columns])
        return self._relocate(boxes, deltas, image, sizes)

    def forward(
        self,
        features: dict[str, Tensor],
        boxes: Tensor,
        image: Tensor,
        labels: Tensor,
        refined: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Objectness logits (r,) and refinement deltas of any boxes (r, 4) with an image and a class each.

        Deltas are of the first ``refined`` boxes; None: of all.
        """
        return self._predict(self._pooler(features, len(boxes)), boxes, image, labels, refined)

    def _pooler(self, features: dict[str, Tensor], count: int) -> Pooler:
        levels, strides = (
            self._own_levels(features),
            [level.stride for level in self.levels.values()],
        )
        if self.decoupling is None:
            return lambda boxes, image: pool_pyramid(levels, boxes, image, strides, POOLED_SIDE)
        return self.decoupling.pooler(levels, strides, POOLED_SIDE, count)

    def _predict(
        self, pool: Pooler, boxes: Tensor, image: Tensor, labels: Tensor, refined: int | None = None
    ) -> tuple[Tensor, Tensor]:
        count = len(boxes)
        spare = -count % ROW_MULTIPLE if self.training and torch.is_autocast_enabled("cpu") else 0
        boxes, image, labels = (
            pad(boxes, (0, 0, 0, spare)),
            pad(image, (0, spare)),
            pad(labels, (0, spare)),
        )
        logits, deltas = self.heads(
            pool(boxes, image), labels, count if refined is None else refined
        )
        return logits[:count], deltas

    def _own_levels(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        for name, level in self.levels.items():
            if name not in features or features[name].shape[1] != level.channels:
                came = {key: tuple(value.shape) for key, value in features.items()}
                raise ValueError(
                    f"features: expected level {name!r} with {level.channels} channels, got {came}"
                )
        return {name: features[name] for name in self.levels}

    def _relocate(self, boxes: Tensor, deltas: Tensor, image: Tensor, sizes: Sizes) -> Tensor:
        if not self.config.relocation:
            return boxes
        moved = decode_deltas(boxes, deltas, self.config.delta_weights)
        return clip(moved, torch.tensor(sizes, device=boxes.device).view(-1, 2)[image])


def fuse(
    s_ori: Tensor, s_clu: Tensor, s_obj: Tensor, weights: tuple[float, float, float]
) -> Tensor:
    """``s = w_ori s_ori + w_clu s_clu + w_obj s_obj`` for scores (k,) each, ``weights`` in that order."""
    w_ori, w_clu, w_obj = weights
    return w_ori * s_ori + w_clu * s_clu + w_obj * s_obj
