"""Pure functions on boxes: area, overlap, distance, clipping, and deltas.

All torch code of this library takes its IoU from here, so that there is one definition of it.
Boxes are floating tensors (..., 4) with the corners ``x1, y1, x2, y2`` in pixels, x1 <= x2 and
y1 <= y2. Deltas are those of Fast R-CNN (arXiv 1504.08083).

n, m: numbers of boxes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from postnms.devices import constant

DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Factors of (dx, dy, dw, dh) in the second stage of Fast R-CNN.

They bring the regression targets to about unit variance.
"""

MAX_LOG_SCALE = math.log(1000.0 / 16)
"""Largest dw or dh that is decoded. It makes a side 62.5 times as long."""


def area(boxes: Tensor) -> Tensor:
    """Return the area of each box in square pixels: (..., 4) -> (...,).

    A degenerate box has area 0.
    """
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(first: Tensor, second: Tensor) -> Tensor:
    """Return the area that two boxes share, in square pixels: two (..., 4) -> (...,).

    The shapes of the arguments may differ, as long as they broadcast. The area is 0 where the boxes
    do not touch.
    """
    # Each coordinate is a tensor of its own here. With the four coordinates as the innermost
    # dimension, torch could not vectorise over the pairs.
    left, top, right, bottom = first.unbind(-1)
    other_left, other_top, other_right, other_bottom = second.unbind(-1)
    width = (torch.minimum(right, other_right) - torch.maximum(left, other_left)).clamp(min=0)
    height = (torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)).clamp(min=0)
    return width * height


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU of two boxes, in [0, 1]: two (..., 4) -> (...,).

    The shapes of the arguments may differ, as long as they broadcast. Half precision is computed
    and returned in float32. The IoU is 0 where neither box has an area.
    """
    first = at_least_float32(first)
    second = at_least_float32(second)
    shared = intersection(first, second)
    union = area(first) + area(second) - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(shared))


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU of each of n boxes with each of m boxes.

    Half precision is computed and returned in float32. The IoU is 0 where neither box has an area.

    Args:
        first: (n, 4) floating, xyxy.
        second: (m, 4) floating, xyxy.

    Returns:
        (n, m), values in [0, 1].

    Example:
        >>> import torch
        >>> from postnms.boxes import pairwise_iou
        >>> first = torch.tensor([[0.0, 0, 10, 10]])
        >>> second = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30]])
        >>> pairwise_iou(first, second)
        tensor([[1.0000, 0.5000, 0.0000]])
    """
    return paired_iou(first[:, None], second[None, :])


def paired_ios(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over the smaller area (IoS) of two boxes: two (..., 4) -> (...,).

    The values are in [0, 1]. The shapes of the arguments may differ, as long as they broadcast.
    Half precision is computed and returned in float32. The value is 0 where the smaller box has no
    area.
    """
    first = at_least_float32(first)
    second = at_least_float32(second)
    shared = intersection(first, second)
    smaller = torch.minimum(area(first), area(second))
    return torch.where(smaller > 0, shared / smaller, torch.zeros_like(shared))


def paired_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the penalty of DIoU (arXiv 1911.08287) of two boxes: two (..., 4) -> (...,).

    It is the squared distance of the centres, divided by the squared diagonal of the smallest box
    that encloses both. The values are in [0, 1]. The shapes of the arguments may differ, as long as
    they broadcast. The value is 0 where both boxes are the same point.
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
    """Move the corners of boxes to the nearest points inside their images.

    Args:
        boxes: (n, 4) floating, xyxy, pixels.
        sizes: (n, 2) or (2,), the (height, width) in pixels of the image of each box or of all.

    Returns:
        (n, 4), coordinates in [0, width] and [0, height].

    Example:
        >>> import torch
        >>> from postnms.boxes import clip
        >>> clip(torch.tensor([[-5.0, 10, 700, 90]]), torch.tensor([480, 640])).tolist()
        [[0.0, 10.0, 640.0, 90.0]]
    """
    height = sizes[..., 0, None]
    width = sizes[..., 1, None]
    zero = torch.zeros((), dtype=boxes.dtype, device=boxes.device)
    limit = torch.cat([width, height, width, height], dim=-1).to(boxes)
    return torch.minimum(torch.maximum(boxes, zero), limit)


def encode_deltas(
    boxes: Tensor, truths: Tensor, weights: Sequence[float] = DELTA_WEIGHTS
) -> Tensor:
    """Return the deltas that move each box onto the true box of the same row.

    The deltas (dx, dy, dw, dh) are those of Fast R-CNN (arXiv 1504.08083): dx and dy are the
    distances of the centres over the sides of the box, dw and dh are the logarithms of the ratios
    of the sides. All are multiplied by the weights. Sides must be positive. Otherwise the deltas
    are not finite.

    Args:
        boxes: (n, 4) floating, xyxy.
        truths: (n, 4) floating, xyxy.
        weights: factors of (dx, dy, dw, dh).

    Returns:
        (n, 4).

    Example:
        >>> import torch
        >>> from postnms.boxes import encode_deltas
        >>> box = torch.tensor([[0.0, 0, 10, 10]])
        >>> encode_deltas(box, torch.tensor([[1.0, 0, 11, 10]])).tolist()
        [[1.0, 0.0, 0.0, 0.0]]
    """
    centre, size = _centre_and_size(boxes)
    truth_centre, truth_size = _centre_and_size(truths)
    deltas = torch.cat([(truth_centre - centre) / size, torch.log(truth_size / size)], dim=-1)
    return deltas * constant(weights, deltas.dtype, deltas.device)


def decode_deltas(
    boxes: Tensor,
    deltas: Tensor,
    weights: Sequence[float] = DELTA_WEIGHTS,
    max_log_scale: float = MAX_LOG_SCALE,
) -> Tensor:
    """Return the boxes to which deltas move boxes. This is the inverse of :func:`encode_deltas`.

    Args:
        boxes: (n, 4) floating, xyxy.
        deltas: (n, 4) floating, (dx, dy, dw, dh). Where dw or dh, divided by its weight, is over
            ``max_log_scale``, that limit is used.
        weights: factors of (dx, dy, dw, dh) in ``deltas``.
        max_log_scale: the limit of dw and dh.

    Returns:
        (n, 4), xyxy. The boxes are not clipped to an image.

    Example:
        >>> import torch
        >>> from postnms.boxes import decode_deltas
        >>> box = torch.tensor([[0.0, 0, 10, 10]])
        >>> decode_deltas(box, torch.tensor([[1.0, 0, 0, 0]])).tolist()
        [[1.0, 0.0, 11.0, 10.0]]
    """
    centre, size = _centre_and_size(boxes)
    deltas = deltas / constant(weights, deltas.dtype, deltas.device)
    centre = centre + deltas[..., :2] * size
    # An untrained network may give any dw. Without a limit, the exponential would overflow.
    half = size * torch.exp(deltas[..., 2:].clamp(max=max_log_scale)) / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32, and any other dtype unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centres (x, y) and the sizes (width, height) of boxes, (..., 2) each."""
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + size / 2, size
