"""The post-NMS stage (paper: sections 3.2 to 3.4).

In training, clusters become training rows, and the rows become losses. At inference, clusters
become detections.

B: images, C: channels, n: candidates, k: clusters, r: rows.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from postnms.boxes import clip, decode_deltas, encode_deltas
from postnms.checks import check_outputs
from postnms.clustering import keep_keys, representative_boxes
from postnms.devices import constant
from postnms.distributed.collectives import CountedLoss, settle
from postnms.errors import UserError
from postnms.ops.pooling.roi_align import pool_pyramid
from postnms.orders import sort_by_image
from postnms.stage import graphs as graphs  # It registers an operator.
from postnms.stage.config import StageConfig
from postnms.stage.decoupling import DecouplingLayer, Pooler
from postnms.stage.heads import POOLED_SIDE, StageHeads
from postnms.stage.losses import classification_loss, location_loss, normalised
from postnms.stage.training_rows import training_rows
from postnms.structures import (
    Candidates,
    Clusters,
    Detections,
    Level,
    Targets,
    derive,
    take,
)

Sizes = Sequence[tuple[int, int]]
"""(height, width) in pixels of each image of the network's input, without padding."""
UNEQUAL_CHANNELS = 256
"""Channels of the decoupling layer's output if the levels differ and the settings name none."""
ROW_MULTIPLE = 64
"""Rows are padded to a multiple of this when training in bfloat16 on a CPU, because the matrix
library spends milliseconds on every new shape."""
ROWS_AT_ONCE = 2048
"""Chunk size of ``refine``, whose number of candidates has no upper bound."""


def fuse(
    s_ori: Tensor, s_clu: Tensor, s_obj: Tensor, weights: tuple[float, float, float]
) -> Tensor:
    """Return the scores of the stage, ``w_ori * s_ori + w_clu * s_clu + w_obj * s_obj`` (Table 6).

    Args:
        s_ori: (k,), the detector's score of each key.
        s_clu: (k,), the objectness of the representative box of each cluster.
        s_obj: (k,), the objectness of each key.
        weights: (w_ori, w_clu, w_obj).

    Returns:
        (k,).

    Example:
        >>> import torch
        >>> from postnms.stage.stage import fuse
        >>> fuse(torch.tensor([0.5]), torch.tensor([1.0]), torch.tensor([0.0]), (0.8, 0.1, 0.1))
        tensor([0.5000])
    """
    w_ori, w_clu, w_obj = weights
    return w_ori * s_ori + w_clu * s_clu + w_obj * s_obj


class PostNMSStage(nn.Module):
    """A trainable stage after NMS. It re-scores and re-locates the boxes that NMS keeps.

    Its gradient reaches the network through the features alone. Boxes, scores, importance and beta
    are detached.

    Args:
        config: settings of the stage.
        levels: the pyramid levels that RoIs are pooled from, by name, from fine to coarse. Each is
            twice as coarse as the one before.
        num_classes: number of classes, without a background class.

    Raises:
        UserError: the levels differ in their channels and there is no decoupling layer, or there is
            a class encoding and the number of channels is odd.

    Example:
        >>> import torch
        >>> from postnms import Candidates, Level, PostNMSStage, StageConfig, cluster
        >>> levels = {"0": Level(channels=8, stride=4)}
        >>> stage = PostNMSStage(StageConfig(width=16), levels, num_classes=3)
        >>> boxes = torch.tensor([[0.0, 0, 20, 20], [2, 0, 22, 20], [40, 40, 60, 60]])
        >>> scores = torch.tensor([0.9, 0.8, 0.7])
        >>> zeros = torch.zeros(3, dtype=torch.int64)
        >>> clusters = cluster(Candidates(boxes, scores, zeros, zeros, zeros, num_images=1))
        >>> features = {"0": torch.zeros(1, 8, 16, 16)}
        >>> stage.detect(features, [(64, 64)], clusters, max_detections=100).boxes.shape
        torch.Size([2, 4])
    """

    def __init__(self, config: StageConfig, levels: Mapping[str, Level], num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.levels = dict(levels)
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
        """Return the terms of beta * L_post, as they are added to the detector's losses.

        Args:
            features: feature maps (B, C, H, W) by name, among them the levels of the stage.
            clusters: the candidates and their clusters.
            targets: the ground truth in the pixels of the candidates.

        Returns:
            ``loss_stage_cls`` and ``loss_stage_loc``: () float32 each. The number of rows and beta
            are those of the batch over all processes. Without rows, as in the first iterations of a
            detector that scores no box over the threshold, both are zeros that still allow a
            backward pass.
        """
        losses = self.counted_losses(features, clusters, targets)
        return settle(losses, clusters.keys.device)

    def counted_losses(
        self, features: dict[str, Tensor], clusters: Clusters, targets: Targets
    ) -> dict[str, CountedLoss]:
        """Return the losses of :meth:`losses` before the counts of the processes are known."""
        rows = training_rows(clusters, targets, self.config)
        # Negative rows have no object to move to, so the refinement network does not see them.
        positives = len(rows.truths)
        logits, deltas = self(features, rows.boxes, rows.image, rows.labels, refined=positives)
        target_deltas = encode_deltas(
            rows.boxes[:positives], rows.truths, self.config.delta_weights
        )
        totals = {
            "loss_stage_cls": classification_loss(logits, rows.positive, rows.w_cls),
            "loss_stage_loc": location_loss(
                deltas, target_deltas, rows.w_loc, self.config.smooth_l1_beta
            ),
        }
        # The counts are those of all processes, so that the losses do not depend on how the batch
        # is divided among them.
        counts = (len(clusters.keys), len(clusters.assignment), rows.count)
        return {
            name: CountedLoss(counts, partial(normalised, total, self.config.beta))
            for name, total in totals.items()
        }

    def detect(
        self, features: dict[str, Tensor], sizes: Sizes, clusters: Clusters, max_detections: int
    ) -> Detections:
        """Return the keys that NMS keeps, with the scores and the boxes of the stage.

        Args:
            features: feature maps (B, C, H, W) by name, among them the levels of the stage.
            sizes: the size of each image. Boxes are clipped to it.
            clusters: the candidates and their clusters.
            max_detections: largest number of keys for each image, chosen by the detector's score.

        Returns:
            The detections by image, then by falling score of the stage.

        Raises:
            UserError: the stage gives values that are not finite.
        """
        # These are the keys that plain NMS keeps, so that both results can be compared key by key.
        kept, chosen = keep_keys(clusters, max_detections)
        count = len(kept.boxes)
        representatives = kept.boxes
        if self.config.representative_rows:
            representatives = representative_boxes(clusters, self.config.representative)[chosen]
        # Where the representative box is the key itself, s_clu is s_obj. It is not scored again.
        differs = (representatives != kept.boxes).any(dim=1)
        rows = differs.nonzero().squeeze(1)
        boxes = torch.cat([kept.boxes, representatives[rows]])
        image = torch.cat([kept.image, kept.image[rows]])
        labels = torch.cat([kept.labels, kept.labels[rows]])
        # One pass gives the objectness of keys and representative boxes. Only keys are moved.
        logits, deltas = self(features, boxes, image, labels, refined=count)
        self._check(features, objectness=logits, refinement=deltas)
        s_obj = logits[:count].sigmoid()
        s_clu = s_obj.masked_scatter(differs, logits[count:].sigmoid())
        scores = fuse(kept.scores, s_clu, s_obj, self.config.fusion)
        moved = self._relocate(kept.boxes, deltas, kept.image, sizes)
        # The new scores change the order of the keys within their image.
        rescored = derive(kept, boxes=moved, scores=scores)
        return take(rescored, sort_by_image(scores, kept.image))

    def refine(self, features: dict[str, Tensor], sizes: Sizes, candidates: Candidates) -> Tensor:
        """Return the box to which the stage would move each candidate if it were a key.

        Suppression can then run on refined boxes.

        Args:
            features: feature maps (B, C, H, W) by name, among them the levels of the stage.
            sizes: the size of each image. Boxes are clipped to it.
            candidates: any candidates of the batch.

        Returns:
            (n, 4) float32, xyxy, pixels, in the order of the candidates. Without relocation these
            are the candidates' boxes.

        Raises:
            UserError: the stage gives values that are not finite.
        """
        boxes = candidates.boxes
        image = candidates.image
        # The levels are convolved once at most, and memory is limited by the size of a chunk.
        pool = self._pooler(features, len(boxes))
        chunks = zip(
            *(column.split(ROWS_AT_ONCE) for column in (boxes, image, candidates.labels)),
            strict=True,
        )
        deltas = torch.cat([self._predict(pool, *rows)[1] for rows in chunks])
        self._check(features, refinement=deltas)
        return self._relocate(boxes, deltas, image, sizes)

    def forward(
        self,
        features: dict[str, Tensor],
        boxes: Tensor,
        image: Tensor,
        labels: Tensor,
        refined: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return objectness logits (r,) and refinement deltas (r, 4) of any boxes, both float32.

        Args:
            features: feature maps (B, C, H, W) by name, among them the levels of the stage.
            boxes: (r, 4) float32, xyxy, in pixels of the network's input.
            image: (r,) int64, the image of each box.
            labels: (r,) int64, the class that each box is looked at for.
            refined: number of leading boxes that deltas are returned for. None: all.

        Raises:
            ValueError: a level is missing or has another number of channels.
        """
        return self._predict(self._pooler(features, len(boxes)), boxes, image, labels, refined)

    def _pooler(self, features: dict[str, Tensor], count: int) -> Pooler:
        """Return a function that pools F_post for ``count`` boxes in all."""
        levels = self._checked_levels(features)
        strides = [level.stride for level in self.levels.values()]
        if self.decoupling is None:
            return lambda boxes, image: pool_pyramid(levels, boxes, image, strides, POOLED_SIDE)
        return self.decoupling.pooler(levels, strides, POOLED_SIDE, count)

    def _predict(
        self, pool: Pooler, boxes: Tensor, image: Tensor, labels: Tensor, refined: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pool the boxes and run both networks on them. See ``forward``."""
        count = len(boxes)
        refined = count if refined is None else refined
        # The padding consists of empty boxes of image 0 and class 0. What is not asked for is cut
        # off, so it adds nothing to a gradient.
        multiple = ROW_MULTIPLE if self.training and torch.is_autocast_enabled("cpu") else 1
        spare = -count % multiple
        boxes = pad(boxes, (0, 0, 0, spare))
        image = pad(image, (0, spare))
        labels = pad(labels, (0, spare))
        logits, deltas = self.heads(pool(boxes, image), labels, refined + -refined % multiple)
        return logits[:count], deltas[:refined]

    def _check(self, features: dict[str, Tensor], **outputs: Tensor) -> None:
        """Raise UserError if an output that is used is not finite."""
        if not self.config.relocation:
            del outputs["refinement"]
        check_outputs("stage", outputs, features)

    def _checked_levels(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the levels of the stage in their order. Raise ValueError if one does not fit."""
        for name, level in self.levels.items():
            if name not in features or features[name].shape[1] != level.channels:
                came = {key: tuple(value.shape) for key, value in features.items()}
                raise ValueError(
                    f"features: expected level {name!r} with {level.channels} channels, got {came}"
                )
        return {name: features[name] for name in self.levels}

    def _relocate(self, boxes: Tensor, deltas: Tensor, image: Tensor, sizes: Sizes) -> Tensor:
        """Move boxes by their deltas and clip them, unless relocation is off."""
        if not self.config.relocation:
            return boxes
        moved = decode_deltas(boxes, deltas, self.config.delta_weights)
        return clip(moved, constant(sizes, torch.int64, boxes.device).view(-1, 2)[image])
