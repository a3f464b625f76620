"""PISA, prime sample attention (arXiv 1904.04821): some samples of a box head matter more.

It changes the losses of training alone. Every positive and negative box is ranked within its image,
and the better its rank, the more it weighs in the loss of the classes (importance-based sample
re-weighting, ISR-P and ISR-N). The location loss of a positive is weighted by the score of its
class, and its gradient teaches that score (classification-aware regression loss, CARL).

Clusters, ranks and the totals that the weights keep are those of one image. The losses are sums
over the boxes of all images, divided by their number over all processes, as without PISA. So they
do not depend on how a batch is divided among processes. The source ranks and normalises over the
images that a process has.

n: boxes, p: boxes of all images, C: outputs of the classifier (the background class comes first),
B: images of the batch.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import RoIHeads

from postnms.boxes import paired_iou
from postnms.checks import trusted
from postnms.config import Config, Fraction
from postnms.detectors.image_batch import ImageBatch
from postnms.detectors.parts.assignment import boxes_of
from postnms.detectors.parts.box_head import (
    HeadSample,
    Predictions,
    decode_boxes,
    image_of,
    location_losses,
)
from postnms.devices import constant, number_of_each, rows_of
from postnms.distributed.collectives import CountedLoss, mean_over_rows
from postnms.ops import cluster_nms

Exponent = Annotated[float, Field(ge=0)]
"""Power that an importance in [0, 1] is raised to. 0: all boxes weigh the same."""


class PISAConfig(Config):
    """Settings of PISA; the defaults are those of its authors' Faster R-CNN.

    A weight is ((1 - bias) v + bias) ** k before it is normalised, where v in [0, 1] is the
    importance of a box, or the score of its class.
    """

    positive_k: Exponent = 2.0
    """k of the weights of positive boxes in the loss of the classes."""
    positive_bias: Fraction = 0.0
    """Bias of these weights."""
    negative_k: Exponent = 0.5
    """k of the weights of negative boxes in the loss of the classes."""
    negative_bias: Fraction = 0.0
    """Bias of these weights."""
    negative_iou_threshold: Fraction = 0.5
    """Negative boxes are clustered by NMS at this IoU."""
    negative_score_threshold: Fraction = 0.05
    """Negative boxes are ranked if the best score of a class is over this. The others are as
    important as the last one that is ranked."""
    carl_k: Exponent = 1.0
    """k of the weights of positive boxes in the location loss."""
    carl_bias: Fraction = 0.2
    """Bias of these weights."""


def pisa_losses(
    head: RoIHeads,
    predictions: Predictions,
    sample: HeadSample,
    truths: Sequence[dict[str, Tensor]],
    images: ImageBatch,
    config: PISAConfig,
    smooth_l1_beta: float,
) -> tuple[CountedLoss, CountedLoss]:
    """Return the losses of the classes and of the locations, as ``head_losses`` without PISA.

    Args:
        head: its box coder is used.
        predictions: the outputs of the head for the sample.
        sample: the boxes that the head is trained on.
        truths: for each image, ``boxes`` (m, 4) of its ground truth.
        images: the batch that the boxes lie in.
        config: the settings.
        smooth_l1_beta: beta of the location loss.
    """
    labels = torch.cat(sample.labels)
    image = image_of(sample.boxes)
    counts = torch.stack([(labels > 0).sum(), (labels == 0).sum()]).tolist()
    positive, negative = rows_of(labels > 0, counts[0]), rows_of(labels == 0, counts[1])
    of_label = labels[positive]
    losses = F.cross_entropy(predictions.logits, labels, ignore_index=-1, reduction="none")
    weights = torch.ones_like(losses)
    with torch.no_grad():
        moved = decode_boxes(head, predictions, positive, of_label, images)
        importance = _importance_of_positives(predictions, sample, truths, positive, moved)
        for rows, raw in (
            (positive, powered(importance, config.positive_k, config.positive_bias)),
            (negative, _weights_of_negatives(head, predictions, negative, images, config)),
        ):
            weights[rows] = keep_totals(raw, losses[rows], image[rows], len(truths))
    targets = torch.cat(sample.deltas)[positive]
    location = location_losses(predictions, positive, of_label, targets, smooth_l1_beta)
    scores = predictions.logits.softmax(dim=1)[positive, of_label]
    of_location = carl_weights(scores, image[positive], len(truths), config)
    return (
        mean_over_rows((weights * losses).sum(), sum(counts)),
        mean_over_rows((of_location * location.sum(dim=1)).sum(), sum(counts)),
    )


def hierarchical_ranks(values: Tensor, groups: Tensor, sections: Tensor) -> Tensor:
    """Return the hierarchical local rank of each box in its section: (n,) int64, from 0.

    The best of every group come first, by falling value, then the second best of every group, and
    so on. Of equal values, the lower row comes first.

    Args:
        values: (n,), what the boxes are ranked by.
        groups: (n,) int64, boxes of one object. All boxes of a group are in one section.
        sections: (n,) int64, boxes that are ranked together.
    """
    by_value = torch.argsort(values, descending=True, stable=True)
    local = _ranks_within(groups, by_value)
    return _ranks_within(sections, by_value[torch.argsort(local[by_value], stable=True)])


def _ranks_within(sections: Tensor, order: Tensor) -> Tensor:
    """Return the rank of each box in its section, where ``order`` (n,) has the boxes in order."""
    order = order[torch.argsort(sections[order], stable=True)]
    by_section = sections[order]
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), device=order.device) - torch.searchsorted(
        by_section, by_section
    )
    return ranks


def importance_of_positives(
    iou: Tensor, truth: Tensor, labels: Tensor, image: Tensor, num_images: int, outputs: int
) -> Tensor:
    """Return the importance of positive boxes, in (0, 1]: (n,).

    Boxes of one class of an image are ranked by IoU, with one group a truth. The importance is
    1 - rank / (largest number of positive boxes of a class in the image).

    Args:
        iou: (n,), of each moved box with its truth.
        truth: (n,) int64, the truth of each box, counted through the batch.
        labels: (n,) int64, the output of each box, below ``outputs``.
        image: (n,) int64.
        num_images: B.
        outputs: C.
    """
    section = image * outputs + labels
    ranks = hierarchical_ranks(iou, truth, section)
    of_classes = number_of_each(section, num_images * outputs).view(num_images, outputs)
    return 1 - ranks / of_classes.amax(dim=1)[image]


def importance_of_negatives(
    scores: Tensor, clusters: Tensor, image: Tensor, num_images: int, score_threshold: float
) -> Tensor:
    """Return the importance of negative boxes, in (0, 1]: (n,).

    Boxes that score over the threshold are ranked in their image by score, with one group a
    cluster. The importance is 1 - rank / (number of negative boxes in the image). The other boxes
    are as important as the last one of the image that is ranked, or 1 if none is.

    Args:
        scores: (n,), the best score of a class of each box.
        clusters: (n,) int64, the cluster of each box, counted through the batch.
        image: (n,) int64.
        num_images: B.
        score_threshold: boxes that score more are ranked.
    """
    is_ranked = scores > score_threshold
    # The others are sections of their own.
    ranks = hierarchical_ranks(scores, clusters, torch.where(is_ranked, image, num_images + image))
    ranked = torch.where(is_ranked, image, num_images)
    last = (number_of_each(ranked, num_images + 1) - 1).clamp(min=0)
    ranks = torch.where(is_ranked, ranks, last[image])
    return 1 - ranks / number_of_each(image, num_images)[image]


def powered(values: Tensor, k: float, bias: float) -> Tensor:
    """Return ((1 - bias) v + bias) ** k of values in [0, 1]."""
    return ((1 - bias) * values + bias) ** k


def carl_weights(scores: Tensor, image: Tensor, num_images: int, config: PISAConfig) -> Tensor:
    """Return the weights (n,) of the location losses; gradients flow into the scores (n,).

    Their mean over the positive boxes of each image is 1.
    """
    raw = powered(scores, config.carl_k, config.carl_bias)
    return keep_totals(raw, torch.ones_like(raw), image, num_images)


def keep_totals(weights: Tensor, losses: Tensor, image: Tensor, num_images: int) -> Tensor:
    """Return the weights (n,) times a factor for each image, with which its total loss stays.

    The losses (n,) are constants of at least 0. Where the weighted ones sum up to 0, the factor
    is 1.
    """
    zeros = losses.new_zeros(num_images)
    total = zeros.index_add(0, image, losses)
    weighted = zeros.index_add(0, image, weights * losses)
    # A division by 0 would have a gradient that is not finite, although it is not chosen.
    some = weighted > 0
    factors = torch.where(some, total / torch.where(some, weighted, 1.0), 1.0)
    return weights * factors[image]


def _importance_of_positives(
    predictions: Predictions,
    sample: HeadSample,
    truths: Sequence[dict[str, Tensor]],
    rows: Tensor,
    moved: Tensor,
) -> Tensor:
    """Return the importance (n,) of the positive boxes ``rows``, which the head has moved."""
    pairs = list(zip(sample.matches, truths, strict=True))
    boxes = torch.cat([boxes_of(match, truth) for match, truth in pairs])[rows]
    counts = [len(truth["boxes"]) for truth in truths]
    starts = constant([sum(counts[:i]) for i in range(len(counts))], torch.int64, rows.device)
    image = image_of(sample.boxes)
    truth = (torch.cat(sample.matches) + starts[image])[rows]
    labels = torch.cat(sample.labels)[rows]
    outputs = predictions.logits.shape[1]
    iou = paired_iou(moved, boxes)
    return importance_of_positives(iou, truth, labels, image[rows], len(truths), outputs)


def _weights_of_negatives(
    head: RoIHeads,
    predictions: Predictions,
    rows: Tensor,
    images: ImageBatch,
    config: PISAConfig,
) -> Tensor:
    """Return the weights (n,) of the negative boxes ``rows`` before they are normalised."""
    image = image_of(predictions.boxes)[rows]
    scores, best = predictions.logits.softmax(dim=1)[rows, 1:].max(dim=1)
    moved = decode_boxes(head, predictions, rows, best + 1, images)
    # What is not finite reaches the losses, where training names it. Here it counts as nothing.
    finite = torch.isfinite(moved).all(dim=1) & torch.isfinite(scores)
    moved = torch.where(finite[:, None], moved, 0.0)
    scores = torch.where(finite, scores, 0.0)
    with trusted():
        _, clusters = cluster_nms(moved, scores, image, config.negative_iou_threshold)
    importance = importance_of_negatives(
        scores, clusters, image, len(predictions.boxes), config.negative_score_threshold
    )
    return powered(importance, config.negative_k, config.negative_bias)
