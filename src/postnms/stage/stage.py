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

from postnms.boxes import clip, decode_deltas, encode_deltas, paired_iou
from postnms.checks import check_outputs, check_range
from postnms.clustering import nms_again
from postnms.devices import constant
from postnms.distributed.collectives import CountedLoss, settle
from postnms.errors import UserError
from postnms.ops.pooling.roi_align import pool_pyramid
from postnms.orders import top_per_image
from postnms.stage import graphs as graphs  # It registers an operator.
from postnms.stage.config import StageConfig
from postnms.stage.decoupling import DecouplingLayer, Pooler
from postnms.stage.heads import POOLED_SIDE, StageHeads
from postnms.stage.judged import (
    Judged,
    Looked,
    everything,
    keys_alone,
    keys_and_others,
)
from postnms.stage.losses import classification_loss, location_loss, normalised
from postnms.stage.training_rows import TrainingRows, training_rows
from postnms.structures import (
    POST_NMS_ROW,
    SECOND_NMS_ROW,
    Clusters,
    Detections,
    Level,
    Targets,
    take,
)
from postnms.suppression.protocol import Suppressor
from postnms.suppression.registry import get_suppressor

Sizes = Sequence[tuple[int, int]] | Tensor
"""(height, width) in pixels of each image of the network's input, without padding. A tensor is
(B, 2) int64; a program that is exported has one, since it knows no numbers."""
UNEQUAL_CHANNELS = 256
"""Channels of the decoupling layer's output if the levels differ and the settings name none."""
ROW_MULTIPLE = 64
"""Rows are padded to a multiple of this when training in bfloat16 on a CPU, because the matrix
library spends milliseconds on every new shape."""
ROWS_AT_ONCE = 2048
"""Chunk size of ``judge``, whose number of candidates has no upper bound."""
NO_LIMIT = 2**31 - 1
"""A number of detections that no image has."""


def _without_limit(suppressor: str | None) -> Suppressor | None:
    """Return the suppressor of a text, without a limit of detections: the detector has its own."""
    if suppressor is None:
        return None
    return get_suppressor(suppressor).model_copy(update={"max_detections": NO_LIMIT})


def _check_number(name: str, count: int, images: int) -> None:
    """Raise ValueError unless an argument is of as many images as the candidates."""
    if not torch.compiler.is_compiling() and count != images:  # A graph knows no numbers.
        raise ValueError(f"{name}: expected {images} images as the candidates have, got {count}")


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
        self.num_classes = num_classes
        widths = {level.channels for level in levels.values()}
        if len(widths) > 1 and not config.decoupling:
            raise UserError(
                f"stage.decoupling: levels of {sorted(widths)} channels need it, got false"
            )
        width = widths.pop() if len(widths) == 1 else UNEQUAL_CHANNELS
        channels = (config.channels or width) if config.decoupling else width
        self.decoupling = DecouplingLayer(levels, channels) if config.decoupling else None
        self.heads = StageHeads(channels, num_classes, config)
        # A graph cannot build these.
        self.row_names = config.rows
        self.suppressor = _without_limit(config.suppressor)

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
        _check_number("targets", targets.num_images, clusters.candidates.num_images)
        rows = training_rows(clusters, targets, self.config)
        # Negative rows have no object to move to, so the refinement network does not see them.
        positives = len(rows.truths)
        logits, deltas = self(features, rows.boxes, rows.image, rows.labels, refined=positives)
        target_deltas = encode_deltas(
            rows.boxes[:positives], rows.truths, self.config.delta_weights
        )
        totals = {
            "loss_stage_cls": classification_loss(
                logits, self._objectness_targets(rows, deltas), rows.w_cls
            ),
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

    def _objectness_targets(self, rows: TrainingRows, deltas: Tensor) -> Tensor:
        """Return what the objectness of each row is trained towards: (r,), bool or float32.

        ``deltas`` (p, 4) are those of the positive rows. No gradient reaches them from here.
        """
        if self.config.objectness == "label":
            return rows.positive
        positives = len(rows.truths)
        boxes = rows.boxes[:positives]
        if self.config.relocation:
            boxes = decode_deltas(boxes, deltas.detach(), self.config.delta_weights)
        return pad(paired_iou(boxes, rows.truths), (0, len(rows.boxes) - positives))

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
        looked = keys_alone(clusters, self.config, max_detections)
        return self._judge(features, sizes, looked).detections()

    def rows(
        self, features: dict[str, Tensor], sizes: Sizes, clusters: Clusters, max_detections: int
    ) -> dict[str, Detections]:
        """Return all results of the stage by name, in the order of ``config.rows``.

        ``post_nms`` is that of :meth:`detect`, whose arguments and errors these are. One pass
        through the networks gives them all.
        """
        if self.suppressor is None:
            rows = {POST_NMS_ROW: self.detect(features, sizes, clusters, max_detections)}
        else:
            looked = keys_and_others(clusters, self.config, max_detections)
            judged = self._judge(features, sizes, looked)
            kept = self.suppressor(judged.candidates())
            best = top_per_image(kept.scores, kept.image, kept.num_images, max_detections)
            rows = {POST_NMS_ROW: judged.detections(), self.row_names[-1]: take(kept, best)}
        if self.config.second_nms is not None:
            rows[SECOND_NMS_ROW] = nms_again(rows[POST_NMS_ROW], self.config.second_nms)
        return {name: rows[name] for name in self.row_names}

    def _judge(self, features: dict[str, Tensor], sizes: Sizes, looked: Looked) -> Judged:
        """Run both networks on the boxes that are looked at."""
        count = len(looked.candidates.boxes)
        # One pass gives the objectness of all boxes. Representative boxes are not moved.
        logits, deltas = self(features, looked.boxes, looked.image, looked.labels, refined=count)
        return self._judged(features, sizes, looked, logits, deltas)

    def _judged(
        self,
        features: dict[str, Tensor],
        sizes: Sizes,
        looked: Looked,
        logits: Tensor,
        deltas: Tensor,
    ) -> Judged:
        """Return what follows from the outputs of both networks (c + q,) and (c, 4)."""
        _check_number("sizes", len(sizes), looked.candidates.num_images)
        self._check(features, objectness=logits, refinement=deltas)
        moved = self._relocate(looked.candidates.boxes, deltas, looked.candidates.image, sizes)
        return Judged(looked, logits.sigmoid(), moved, self.config)

    def judge(
        self, features: dict[str, Tensor], sizes: Sizes, clusters: Clusters
    ) -> dict[str, Tensor]:
        """Return what the stage says of every candidate, as extra columns of the candidates.

        Suppression can then run on the moved boxes, with any fusion of the scores.

        Args:
            features: feature maps (B, C, H, W) by name, among them the levels of the stage.
            sizes: the size of each image. Boxes are clipped to it.
            clusters: any candidates (n) of the batch and their clusters.

        Returns:
            :data:`~postnms.structures.REFINED` (n, 4), the boxes after their refinement. Without
            relocation they are the boxes of the candidates.
            :data:`~postnms.structures.OBJECTNESS` (n,) and
            :data:`~postnms.structures.CLUSTER_OBJECTNESS` (n,).

        Raises:
            UserError: the stage gives values that are not finite.
        """
        looked = everything(clusters, self.config)
        count = len(looked.candidates.boxes)
        # The levels are convolved once at most, and memory is limited by the size of a chunk.
        pool = self._pooler(features, len(looked.boxes))
        chunks = zip(
            *(part.split(ROWS_AT_ONCE) for part in (looked.boxes, looked.image, looked.labels)),
            strict=True,
        )
        outputs = [self._predict(pool, *rows) for rows in chunks]
        logits, deltas = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        return self._judged(features, sizes, looked, logits, deltas[:count]).columns()

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
            ValueError: a level is missing or has another number of channels, or a label is no class
                of the stage. Labels on a GPU are not looked at, since the host would wait for it.
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
        if labels.device.type == "cpu" and not torch.compiler.is_compiling():
            check_range("labels", labels, self.num_classes)
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
