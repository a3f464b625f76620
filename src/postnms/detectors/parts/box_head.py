"""The second stage of a two-stage detector (Fast R-CNN, arXiv 1504.08083).

Proposals go in, class scores and box deltas come out. torchvision's ``RoIHeads`` holds the modules
and the settings of a head. It does everything in one method, and gives detections in evaluation
mode only. Here each step is a function. A head may have deltas for every class, or one set of
deltas for all classes.

p: boxes of all images, C: outputs of the classifier (the background class comes first),
n: candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import RoIHeads

from postnms.boxes import clip
from postnms.checks import check_named_outputs, trusted
from postnms.detectors.config import TORCHVISION_BETA
from postnms.detectors.image_batch import ImageBatch
from postnms.detectors.network import Selection
from postnms.detectors.parts.assignment import assign, boxes_of, labels_of, sample_rows
from postnms.detectors.parts.classes import ClassOutputs
from postnms.detectors.parts.deltas import decode, encode
from postnms.detectors.parts.edges import DELTA_LOG_VARIANCE, kl_losses, pixel_log_variance
from postnms.devices import constant, repeated, rows_of
from postnms.distributed.collectives import CountedLoss, mean_over_rows
from postnms.ops.pooling.roi_align import pool_pyramid
from postnms.structures import BOX_FEATURES, EDGE_LOG_VARIANCE, Candidates, Level, limit

MIN_SIDE = 1e-2
"""Candidates with a shorter side, in pixels, are dropped, as torchvision does."""


@dataclass(frozen=True)
class HeadSample:
    """The boxes of each image that a head is trained on. Every field has one tensor per image."""

    boxes: list[Tensor]
    rows: list[Tensor]
    """The row of each box among the image's proposals. -1: an injected ground-truth box."""
    labels: list[Tensor]
    """0: background class, -1: not trained on."""
    deltas: list[Tensor]
    """The deltas that move each box onto its ground truth."""
    matches: list[Tensor]
    """The row of the truth of each box among those of its image. Below 0: none."""


@dataclass(frozen=True)
class Predictions:
    """The outputs of a head."""

    boxes: list[Tensor]
    """The boxes of each image that went in."""
    pooled: Tensor | None
    """(p, channels, s, s): their RoI features. None: not kept."""
    logits: Tensor
    """(p, C) float32."""
    deltas: Tensor
    """(p, 4 C) float32, or (p, 4) where one set serves every class."""
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """Further outputs by the name of an extra column, float32: (p, C) or (p, C, c), or (p, 1) or
    (p, 1, c) where one value serves every class."""


def run_head(
    head: RoIHeads,
    features: dict[str, Tensor],
    levels: Mapping[str, Level],
    boxes: list[Tensor],
    *,
    keep_hidden: bool = False,
) -> Predictions:
    """Pool the boxes of each image from the feature pyramid and run the head on them.

    With ``keep_hidden`` the output of ``head.box_head`` is among the further outputs, as the extra
    column ``box_features``.
    """
    maps = {name: features[name] for name in levels}
    strides = [level.stride for level in levels.values()]
    cells = head.box_roi_pool.output_size[0]
    samples = head.box_roi_pool.sampling_ratio
    pooled = pool_pyramid(maps, torch.cat(boxes), image_of(boxes), strides, cells, samples)
    return Predictions(boxes, pooled, *score_pooled(head, pooled, keep_hidden=keep_hidden))


def check_predictions(
    predictions: Mapping[str, Predictions], features: Mapping[str, Tensor]
) -> None:
    """Raise UserError if an output of a head is not finite. The heads are given by their names."""
    outputs = {}
    for name, of_head in predictions.items():
        named = {"class logits": of_head.logits, "box deltas": of_head.deltas, **of_head.extra}
        outputs |= {f"{name}: {output}": values for output, values in named.items()}
    check_named_outputs(outputs, features)


def score_pooled(
    head: RoIHeads, pooled: Tensor, *, keep_hidden: bool = False
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return the logits, the deltas and the further outputs of pooled boxes, all float32.

    ``head.box_predictor`` returns logits and deltas, and may return a dict of further outputs by
    the name of an extra column as a third value. ``keep_hidden`` is that of :func:`run_head`.
    """
    hidden = head.box_head(pooled)
    logits, deltas, *further = head.box_predictor(hidden)
    extra = further[0] if further else {}
    if keep_hidden:
        # One row of features serves every class.
        extra = {**extra, BOX_FEATURES: hidden.flatten(1)[:, None]}
    return logits.float(), deltas.float(), {name: value.float() for name, value in extra.items()}


def sample_boxes(
    head: RoIHeads,
    proposals: list[Tensor],
    truths: list[dict[str, Tensor]],
    generators: Sequence[torch.Generator] | None,
) -> HeadSample:
    """Match the proposals and the injected ground truth of each image, and draw a sample."""
    pairs = zip(proposals, truths, strict=True)
    everything = [torch.cat([boxes, truth["boxes"]]) for boxes, truth in pairs]
    matched = match_boxes(head, everything, truths)
    rows = sample_rows(matched.labels, head.fg_bg_sampler, generators)
    of_proposals = [
        torch.where(row < len(boxes), row, -1) for row, boxes in zip(rows, proposals, strict=True)
    ]
    boxes, labels, deltas, matches = (
        [part[row] for part, row in zip(column, rows, strict=True)]
        for column in (matched.boxes, matched.labels, matched.deltas, matched.matches)
    )
    return HeadSample(boxes, of_proposals, labels, deltas, matches)


def match_boxes(head: RoIHeads, boxes: list[Tensor], truths: list[dict[str, Tensor]]) -> HeadSample:
    """Match all boxes of each image to its ground truth."""
    matches = assign(head.proposal_matcher, boxes, truths)
    labels = [labels_of(match, truth) for match, truth in zip(matches, truths, strict=True)]
    matched = [boxes_of(match, truth) for match, truth in zip(matches, truths, strict=True)]
    rows = [torch.arange(len(part), device=part.device) for part in boxes]
    deltas = encode(head.box_coder, torch.cat(matched), torch.cat(boxes))
    of_images = list(deltas.split([len(part) for part in boxes]))
    return HeadSample(boxes, rows, labels, of_images, matches)


def head_losses(
    predictions: Predictions, sample: HeadSample, smooth_l1_beta: float = TORCHVISION_BETA
) -> tuple[CountedLoss, CountedLoss]:
    """Return cross-entropy of the classes, and the location loss of positive boxes.

    Both are sums divided by the number of boxes that are trained on, over all processes.
    """
    labels = torch.cat(sample.labels)
    targets = torch.cat(sample.deltas)
    positives, count = torch.stack([(labels > 0).sum(), (labels >= 0).sum()]).tolist()
    positive = rows_of(labels > 0, positives)
    classifier = F.cross_entropy(predictions.logits, labels, ignore_index=-1, reduction="sum")
    location = location_losses(
        predictions, positive, labels[positive], targets[positive], smooth_l1_beta
    )
    return mean_over_rows(classifier, count), mean_over_rows(location.sum(), count)


def location_losses(
    predictions: Predictions, rows: Tensor, outputs: Tensor, targets: Tensor, smooth_l1_beta: float
) -> Tensor:
    """Return the loss of each delta (n, 4) of the given boxes for the given outputs.

    It is smooth-L1, or the KL loss where the head predicts variances; that has no beta.
    """
    deltas = deltas_of(predictions, rows, outputs)
    log_variance = predictions.extra.get(DELTA_LOG_VARIANCE)
    if log_variance is None:
        return F.smooth_l1_loss(deltas, targets, beta=smooth_l1_beta, reduction="none")
    return kl_losses(deltas, targets, _of_outputs(log_variance, rows, outputs))


def deltas_of(predictions: Predictions, rows: Tensor, outputs: Tensor) -> Tensor:
    """Return the deltas (n, 4) of the given boxes for the given outputs of the classifier."""
    return _of_outputs(predictions.deltas.unflatten(1, (-1, 4)), rows, outputs)


def select_candidates(
    head: RoIHeads,
    predictions: Predictions,
    scores: Tensor,
    images: ImageBatch,
    classes: ClassOutputs,
    selection: Selection,
    rows: list[Tensor] | None = None,
) -> Candidates:
    """Decode and clip each (box, class) pair that scores over the threshold.

    Args:
        head: its settings and its box coder are used.
        predictions: the outputs of the head.
        scores: (p, C), the score of each box for each output.
        images: the batch that the boxes lie in.
        classes: the outputs that stand for classes.
        selection: which candidates are asked for.
        rows: for each image, the index of each box among the proposals. A box of index -1 is an
            injected ground-truth box, which gives no candidate. None: the boxes are the proposals,
            in their order.

    Returns:
        The candidates, detached, with the further outputs of the head as extra columns.
    """
    image = image_of(predictions.boxes)
    source = torch.cat(
        rows or [torch.arange(len(part), device=part.device) for part in predictions.boxes]
    )
    class_scores = classes.take(scores.detach())
    chosen = class_scores > selection.threshold(head.score_thresh)
    if rows is not None:
        chosen &= (source >= 0)[:, None]
    row, label, decoded = _decode_large(head, predictions, chosen, images, classes)
    extra = _extra_columns(head, predictions, row, classes.of_labels(label))
    with trusted():
        candidates = Candidates(
            decoded,
            class_scores[row, label],
            label,
            image[row],
            source[row],
            num_images=len(predictions.boxes),
            extra=extra,
        )
    return limit(candidates, selection.most)


def _extra_columns(
    head: RoIHeads, predictions: Predictions, rows: Tensor, outputs: Tensor
) -> dict[str, Tensor]:
    """Return the extra columns of the given boxes for the given outputs of the classifier."""
    extra = {
        name: _of_outputs(values.detach(), rows, outputs)
        for name, values in predictions.extra.items()
    }
    if DELTA_LOG_VARIANCE in extra:
        boxes = torch.cat(predictions.boxes)[rows]
        of_deltas = extra.pop(DELTA_LOG_VARIANCE)
        extra[EDGE_LOG_VARIANCE] = pixel_log_variance(head.box_coder, of_deltas, boxes)
    return extra


def _decode_large(
    head: RoIHeads,
    predictions: Predictions,
    chosen: Tensor,
    images: ImageBatch,
    classes: ClassOutputs,
) -> tuple[Tensor, Tensor, Tensor]:
    """Decode the chosen pairs (p, K) bool, and drop the boxes with a side below ``MIN_SIDE``.

    Returns row, label and box of each pair that is left.
    """
    if predictions.deltas.shape[1] == 4:
        # One set of deltas serves all classes. So all boxes are moved before the pairs are listed,
        # and the host waits for the length of that list alone.
        every = torch.arange(len(chosen), device=chosen.device)
        moved = decode_boxes(head, predictions, every, torch.zeros_like(every), images)
        row, label = (chosen & _is_large(moved)[:, None]).nonzero(as_tuple=True)
        return row, label, moved[row]
    row, label = chosen.nonzero(as_tuple=True)
    moved = decode_boxes(head, predictions, row, classes.of_labels(label), images)
    large = _is_large(moved).nonzero().squeeze(1)
    return row[large], label[large], moved[large]


def _is_large(boxes: Tensor) -> Tensor:
    """Tell which boxes (n, 4) have no short side: (n,) bool.

    A NaN box is not large either. It is dropped, and its loss stops a diverged training run.
    """
    return ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE).all(dim=1)


def decode_boxes(
    head: RoIHeads, predictions: Predictions, rows: Tensor, outputs: Tensor, images: ImageBatch
) -> Tensor:
    """Move boxes (n,) by the deltas of the given outputs (n,), and clip them to their images.

    Returns (n, 4), detached.
    """
    boxes = torch.cat(predictions.boxes)[rows]
    deltas = deltas_of(predictions, rows, outputs).detach()
    moved = decode(head.box_coder, deltas, boxes)
    sizes = constant(images.sizes, torch.int64, moved.device)
    return clip(moved, sizes[image_of(predictions.boxes)[rows]])


def image_of(boxes: list[Tensor]) -> Tensor:
    """Return the image of each box: (p,) int64."""
    return repeated([len(part) for part in boxes], boxes[0].device)


def _of_outputs(values: Tensor, rows: Tensor, outputs: Tensor) -> Tensor:
    """Pick values (p, C, ...) for the given boxes and outputs; (p, 1, ...) serves every output."""
    return values[rows, outputs] if values.shape[1] > 1 else values[rows, 0]
