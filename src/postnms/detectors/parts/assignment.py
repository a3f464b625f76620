"""Boxes against ground truth for a detector's own losses, and the sample that is trained on.

m: ground-truth boxes of an image, r: boxes (anchors or proposals) of an image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher

from postnms.boxes import pairwise_iou


def assign(
    matcher: Matcher, boxes: Sequence[Tensor], truths: Sequence[dict[str, Tensor]]
) -> list[Tensor]:
    """Of each image: for each box (r,) the row of its truth; -1: background, -2: neither, it is not trained on."""
    return [
        matcher(pairwise_iou(truth["boxes"], part)) if len(truth["boxes"]) else _background(part)
        for part, truth in zip(boxes, truths, strict=True)
    ]


def labels_of(rows: Tensor, truth: dict[str, Tensor]) -> Tensor:
    """Of each box (r,) the label of its truth; 0: background, -1: not trained on. Labels of truths count from 1."""
    found = truth["labels"][rows.clamp(min=0)] if len(truth["labels"]) else torch.zeros_like(rows)
    return torch.where(rows >= 0, found, rows.clamp(max=-1) + 1)


def boxes_of(rows: Tensor, truth: dict[str, Tensor]) -> Tensor:
    """Of each box the box of its truth (r, 4); any box where there is none."""
    boxes = truth["boxes"]
    return boxes[rows.clamp(min=0)] if len(boxes) else boxes.new_zeros(len(rows), 4)


def sample_rows(
    labels: Sequence[Tensor],
    sampler: BalancedPositiveNegativeSampler,
    generators: Sequence[torch.Generator] | None = None,
) -> list[Tensor]:
    """Rows of each image that are trained on, rising: positives (label >= 1) up to their share, and negatives (0).

    (Fast R-CNN, arXiv 1504.08083, section 2.3.)

    Each image draws from its own generator, so that its sample does not depend on the others; without generators the
    draws are torchvision's, in its order.
    """
    draws = generators if generators is not None else [None] * len(labels)
    return [_rows_of_image(part, sampler, draw) for part, draw in zip(labels, draws, strict=True)]


def _rows_of_image(
    labels: Tensor, sampler: BalancedPositiveNegativeSampler, generator: torch.Generator | None
) -> Tensor:
    positive, negative = (labels >= 1).nonzero().squeeze(1), (labels == 0).nonzero().squeeze(1)
    size = sampler.batch_size_per_image
    count = min(len(positive), int(size * sampler.positive_fraction))
    chosen = positive[
        torch.randperm(len(positive), device=labels.device, generator=generator)[:count]
    ]
    rest = negative[
        torch.randperm(len(negative), device=labels.device, generator=generator)[: size - count]
    ]
    return torch.cat([chosen, rest]).sort().values


def _background(boxes: Tensor) -> Tensor:
    return torch.full((len(boxes),), -1, dtype=torch.int64, device=boxes.device)
