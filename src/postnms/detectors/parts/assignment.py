"""Boxes against ground truth for a detector's own losses, and the sample that is trained on.

m: ground-truth boxes of an image, r: boxes (anchors or proposals) of an image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher

from postnms.boxes import pairwise_iou
from postnms.devices import rows_of


def assign(
    matcher: Matcher, boxes: Sequence[Tensor], truths: Sequence[dict[str, Tensor]]
) -> list[Tensor]:
    """Match the boxes of each image to its ground truth.

    Args:
        matcher: turns IoUs (m, r) into matches.
        boxes: (r, 4) for each image.
        truths: for each image, ``boxes`` (m, 4) and ``labels`` (m,).

    Returns:
        For each image (r,) int64: the row of the truth of each box. -1: background. -2: neither,
        the box is not trained on.
    """
    return [
        # torchvision's matcher refuses an image without ground truth.
        _match(matcher, pairwise_iou(truth["boxes"], of_image))
        if len(truth["boxes"])
        else _background(of_image)
        for of_image, truth in zip(boxes, truths, strict=True)
    ]


def labels_of(rows: Tensor, truth: dict[str, Tensor]) -> Tensor:
    """Return the label of the truth of each box of an image: (r,) int64.

    ``rows`` (r,) are the matches of :func:`assign`. 0: background, -1: not trained on. Labels of
    truths count from 1.
    """
    labels = truth["labels"][rows.clamp(min=0)] if len(truth["labels"]) else torch.zeros_like(rows)
    # Without a truth, the match -1 becomes label 0, and -2 becomes -1.
    return torch.where(rows >= 0, labels, rows.clamp(max=-1) + 1)


def boxes_of(rows: Tensor, truth: dict[str, Tensor]) -> Tensor:
    """Return the box of the truth of each box of an image: (r, 4).

    ``rows`` (r,) are the matches of :func:`assign`. Where a box has no truth, the result is any
    box.
    """
    boxes = truth["boxes"]
    return boxes[rows.clamp(min=0)] if len(boxes) else boxes.new_zeros(len(rows), 4)


def sample_rows(
    labels: Sequence[Tensor],
    sampler: BalancedPositiveNegativeSampler,
    generators: Sequence[torch.Generator] | None = None,
) -> list[Tensor]:
    """Draw the boxes of each image that are trained on (Fast R-CNN, arXiv 1504.08083, section 2.3).

    Args:
        labels: (r,) for each image. From 1 on: positive, 0: negative, -1: not trained on.
        sampler: holds the size of a sample and the largest share of positives in it.
        generators: the source of the random draws for each image. With them, the sample of an
            image does not depend on the other images. None: torch's own generator, with the draws
            of torchvision in their order.

    Returns:
        For each image the rows of its sample, int64, rising. Negatives fill up the sample.
    """
    draws = generators if generators is not None else [None] * len(labels)
    # The host waits for a GPU once, for these numbers.
    sums = [torch.stack([(part >= 1).sum(), (part == 0).sum()]) for part in labels]
    counts = torch.stack(sums).tolist()
    return [
        _rows_of_image(of_image, count, sampler, draw)
        for of_image, count, draw in zip(labels, counts, draws, strict=True)
    ]


def _rows_of_image(
    labels: Tensor,
    counts: Sequence[int],
    sampler: BalancedPositiveNegativeSampler,
    generator: torch.Generator | None,
) -> Tensor:
    """Draw the sample of one image. ``counts``: how many positives and negatives it has."""
    positive = rows_of(labels >= 1, counts[0])
    negative = rows_of(labels == 0, counts[1])
    size = sampler.batch_size_per_image
    count = min(len(positive), int(size * sampler.positive_fraction))
    # Both permutations are drawn whole, positives first: these are the draws of torchvision.
    chosen = positive[
        torch.randperm(len(positive), device=labels.device, generator=generator)[:count]
    ]
    rest = negative[
        torch.randperm(len(negative), device=labels.device, generator=generator)[: size - count]
    ]
    return torch.cat([chosen, rest]).sort().values


def _match(matcher: Matcher, iou: Tensor) -> Tensor:
    """Return the matches (r,) of IoUs (m, r), as the matcher gives them.

    To list the best boxes of each truth, torchvision's matcher makes the host wait for a GPU.
    """
    # A matcher of another class follows another rule.
    if type(matcher) is not Matcher or not matcher.allow_low_quality_matches:
        return matcher(iou)
    best, nearest = iou.max(dim=0)
    matches = torch.where(best < matcher.high_threshold, matcher.BETWEEN_THRESHOLDS, nearest)
    matches = torch.where(best < matcher.low_threshold, matcher.BELOW_LOW_THRESHOLD, matches)
    # Every truth has the boxes with the best IoU that it attains, ties included.
    is_best = (iou == iou.amax(dim=1, keepdim=True)).any(dim=0)
    return torch.where(is_best, nearest, matches)


def _background(boxes: Tensor) -> Tensor:
    return torch.full((len(boxes),), -1, dtype=torch.int64, device=boxes.device)
