"""Pure functions on boxes: area, THE pairwise IoU, clipping, deltas (Fast R-CNN, arXiv 1504.08083).

Boxes are (..., 4) tensors ``x1, y1, x2, y2`` in pixels. n, m: numbers of boxes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Weights of (dx, dy, dw, dh) in the second stage of Fast R-CNN."""

MAX_LOG_SCALE = math.log(1000.0 / 16)
"""Largest dw or dh that is decoded: one step scales a side by at most 62.5."""


def area(boxes: Tensor) -> Tensor:
    """Area in square pixels. Boxes (..., 4) -> (...,); a zero-size box has area 0."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(first: Tensor, second: Tensor) -> Tensor:
    """Area that two broadcastable box tensors (..., 4) share -> (...,), 0 where they do not touch."""
    # By coordinate: broadcasting with the 4 innermost keeps torch from vectorising over the pairs.
    left, top, right, bottom = first.unbind(-1)
    other_left, other_top, other_right, other_bottom = second.unbind(-1)
    width = (torch.minimum(right, other_right) - torch.maximum(left, other_left)).clamp(min=0)
    height = (torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)).clamp(min=0)
    return width * height


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU in [0, 1] of two broadcastable box tensors (..., 4) -> (...,).

    Half precision is computed in float32. Where both boxes have no area the IoU is 0.
    """
    first, second = at_least_float32(first), at_least_float32(second)
    shared = intersection(first, second)
    union = area(first) + area(second) - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(shared))


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of each of (n, 4) boxes with each of (m, 4) boxes -> (n, m), values in [0, 1]."""
    return paired_iou(first[:, None], second[None, :])


def paired_ios(first: Tensor, second: Tensor) -> Tensor:
    """Share of the smaller box that two broadcastable box tensors (..., 4) have in common -> (...,), in [0, 1].

    Half precision is computed in float32. Where the smaller box has no area it is 0.
    """
    first, second = at_least_float32(first), at_least_float32(second)
    shared = intersection(first, second)
    smaller = torch.minimum(area(first), area(second))
    return torch.where(smaller > 0, shared / smaller, torch.zeros_like(shared))


def paired_distance(first: Tensor, second: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the box around both: (..., 4) -> (...,), in [0, 1].

    The penalty of DIoU (arXiv 1911.08287). 0 for two equal boxes without an extent.
    """
    left, top, right, bottom = first.unbind(-1)
    other_left, other_top, other_right, other_bottom = second.unbind(-1)
    across = (left + right - other_left - other_right) / 2
    down = (top + bottom - other_top - other_bottom) / 2
    width = torch.maximum(right, other_right) - torch.minimum(left, other_left)
    height = torch.maximum(bottom, other_bottom) - torch.minimum(top, other_top)
    diagonal = width * width + height * height
    apart = across * across + down * down
    return torch.where(diagonal > 0, apart / diagonal, torch.zeros_like(apart))


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Move boxes (n, 4) into their images. ``sizes`` (n, 2) or (2,): (height, width) in pixels."""
    height, width = sizes[..., 0, None], sizes[..., 1, None]
    zero = torch.zeros((), dtype=boxes.dtype, device=boxes.device)
    limit = torch.cat([width, height, width, height], dim=-1).to(boxes)
    return torch.minimum(torch.maximum(boxes, zero), limit)


def encode_deltas(
    boxes: Tensor, truths: Tensor, weights: Sequence[float] = DELTA_WEIGHTS
) -> Tensor:
    """Deltas (n, 4) that move each of ``boxes`` (n, 4) onto the same row of ``truths`` (n, 4).

    Both must have positive width and height, else a value is not finite.
    """
    centre, size = _centre_and_size(boxes)
    truth_centre, truth_size = _centre_and_size(truths)
    deltas = torch.cat([(truth_centre - centre) / size, torch.log(truth_size / size)], dim=-1)
    return deltas * deltas.new_tensor(weights)


def decode_deltas(
    boxes: Tensor, deltas: Tensor, weights: Sequence[float] = DELTA_WEIGHTS
) -> Tensor:
    """The inverse of :func:`encode_deltas`; scale steps are clamped to :data:`MAX_LOG_SCALE`."""
    centre, size = _centre_and_size(boxes)
    deltas = deltas / deltas.new_tensor(weights)
    centre = centre + deltas[..., :2] * size
    half = size * torch.exp(deltas[..., 2:].clamp(max=MAX_LOG_SCALE)) / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision widened to float32; float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + size / 2, size
