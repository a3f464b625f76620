"""Precise RoI pooling over a feature pyramid (PrRoIPool: IoU-Net, arXiv 1807.11590, section 3.3).

A feature map is read as a continuous function: bilinear between its cells, 0 outside. An output
cell is the exact integral of that function over the cell, divided by its area. There are no sample
points, so the result has a gradient with respect to the boxes.

The integral is separable. The value of a map cell is spread by a triangle of base 2 along each
axis. So an output cell is Wy F Wx^T / area, where Wy and Wx hold the integrals of the triangles.

r: boxes, C: channels, B: images, s: cells along a side of the output, L: cells along a side of the
window of the map that a box lies in.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from postnms.boxes import at_least_float32
from postnms.devices import constant
from postnms.ops.checks import check_count
from postnms.ops.pooling.checks import check_pooling
from postnms.ops.pooling.roi_align import (
    as_numpy,
    channels_last,
    dtype_of_sums,
    in_cells,
    level_of,
    multiply_adds,
)
from postnms.ops.threads import share, split

WINDOW_NUMBERS = 1 << 23
"""Largest number of feature values that are copied at once, unless one box needs more."""


def pool_precisely(
    features: Mapping[str, Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: Sequence[float],
    cells: int = 7,
) -> Tensor:
    """Pool features for each box by exact integrals, from the pyramid level that its size selects.

    Gradients flow into the features and into the boxes. The level of a box is a constant. As with
    :func:`postnms.ops.pool_pyramid`, the value of a map cell lies at its upper left corner.

    Args:
        features: Levels (B, C, H, W) by name, from fine to coarse, of one dtype.
        boxes: (r, 4) xyxy in pixels, of all images in any order. Half precision is computed in
            float32.
        image: (r,) of any integer dtype, the image of each box, 0..B-1.
        strides: For each level, the number of pixels between neighbouring cells. Each is twice the
            one before.
        cells: Number of cells s along a side of the output, at least 1.

    Returns:
        (r, C, s, s), in the order of the boxes and in the dtype of the features. A box without an
        area gives zeros.

    Raises:
        ValueError: An argument is not as described above. The message begins with its name.

    Example:
        >>> import torch
        >>> from postnms.ops import pool_precisely
        >>> features = {"0": torch.arange(8.0).expand(1, 1, 8, 8)}  # the value is the column
        >>> box = torch.tensor([[4.0, 4, 12, 12]], requires_grad=True)
        >>> pooled = pool_precisely(features, box, torch.tensor([0]), strides=[4], cells=1)
        >>> pooled.item()  # the mean from column 1 to column 3
        2.0
        >>> pooled.sum().backward()
        >>> box.grad.tolist()
        [[0.125, 0.0, 0.125, 0.0]]
    """
    checked, image = check_pooling(features, boxes, image, strides)
    check_count("cells", cells)
    levels = list(features.values())
    work = dtype_of_sums(levels[0].dtype)
    level = level_of(checked, strides)
    learns = torch.is_grad_enabled() and any(part.requires_grad for part in (boxes, *levels))
    if checked.device.type == "cpu" and not learns and levels[0].dtype != torch.float16:
        return _pool_on_cpu(levels, in_cells(checked, level, strides), image, level, cells)
    scaled = in_cells(at_least_float32(boxes).to(work), level, strides)
    pooled, order = [], []
    for number, feature in enumerate(levels):
        rows = (level == number).nonzero().squeeze(1)
        # Channels are innermost, so that each cell of a window is one copy.
        last = feature.to(work).permute(0, 2, 3, 1)
        for part in _parts(scaled.detach(), rows, last.shape):
            # Autocast would multiply matrices in half precision.
            with torch.autocast(checked.device.type, enabled=False):
                pooled.append(_pool(last, scaled[part], image[part], cells))
            order.append(part)
    if not pooled:
        return levels[0].new_zeros(0, levels[0].shape[1], cells, cells)
    # The boxes were pooled in the order of their levels and sizes.
    return torch.cat(pooled)[torch.cat(order).argsort()].to(levels[0].dtype)


def _pool_on_cpu(
    levels: list[Tensor], boxes: Tensor, image: Tensor, level: Tensor, cells: int
) -> Tensor:
    """Pool boxes (r, 4), in cells of their levels, with the numba kernel."""
    from postnms.ops.pooling import precise_cpu as kernel

    last = channels_last(levels)
    shape = (len(boxes), levels[0].shape[1], cells, cells)
    pooled = torch.empty(shape, dtype=levels[0].dtype, device="cpu")
    arrays = tuple(map(as_numpy, last))
    where = (boxes.to(last[0].dtype).numpy(), image.numpy(), level.numpy())
    work = split(len(boxes), multiply_adds(pooled, sampling_ratio=1))
    share(partial(kernel.forward, arrays, *where, as_numpy(pooled)), work)
    return pooled


def _parts(boxes: Tensor, rows: Tensor, shape: torch.Size) -> Iterator[Tensor]:
    """Yield the rows of one level in parts whose windows fit into ``WINDOW_NUMBERS``.

    Boxes of similar size share a part, since all its windows have the size of the largest one.
    ``boxes`` (r, 4) are in cells of the level, ``shape`` is (B, H, W, C).
    """
    first, last = _window(boxes[rows], shape)
    side = (last - first).amax(dim=1) + 1 if len(rows) else rows
    side, order = side.sort(descending=True, stable=True)
    sides = side.tolist()
    done = 0
    while done < len(sides):
        count = max(WINDOW_NUMBERS // (sides[done] ** 2 * max(shape[3], 1)), 1)
        yield rows[order[done : done + count]]
        done += count


def _window(boxes: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Return the first and the last map cell (r, 2), x and y, that a box has a share of."""
    most = constant([shape[2] - 1, shape[1] - 1], torch.int64, boxes.device)
    # A box outside the map has a window at its border, whose cells have weight 0.
    first = boxes[:, :2].floor().clamp(min=0).minimum(most)
    last = boxes[:, 2:].ceil().clamp(min=0).minimum(most)
    return first.long(), last.long()


def _pool(feature: Tensor, boxes: Tensor, image: Tensor, cells: int) -> Tensor:
    """Pool boxes (r, 4), in cells of the map (B, H, W, C): (r, C, s, s)."""
    first, last = _window(boxes.detach(), feature.shape)
    steps = torch.arange(int((last - first).max()) + 1, device=boxes.device)
    place = first[:, :, None] + steps  # (r, 2, L)
    # A window has the size of the largest one. What a box does not need lies beyond its last cell.
    inside = place <= last[:, :, None]
    place = place.minimum(last[:, :, None])
    window = feature[image[:, None, None], place[:, 1, :, None], place[:, 0, None, :]]
    share_x = _shares(boxes[:, 0], boxes[:, 2], place[:, 0], cells) * inside[:, 0, None]
    share_y = _shares(boxes[:, 1], boxes[:, 3], place[:, 1], cells) * inside[:, 1, None]
    rows = share_x[:, None] @ window  # (r, L, s, C)
    pooled = share_y @ rows.flatten(2)  # (r, s, s C)
    return pooled.unflatten(2, (cells, -1)).permute(0, 3, 1, 2)


def _shares(low: Tensor, high: Tensor, place: Tensor, cells: int) -> Tensor:
    """Return what each map cell adds to the mean over each output cell, along one axis.

    Args:
        low: (r,) the first edge of each box, in cells of the map.
        high: (r,) the last edge.
        place: (r, L) the map cells of the window.
        cells: number of output cells s.

    Returns:
        (r, s, L). The shares of an output cell sum to 1 where it lies within the map.
    """
    width = (high - low) / cells
    steps = torch.arange(cells + 1, device=low.device, dtype=low.dtype)
    edges = low[:, None] + width[:, None] * steps  # (r, s + 1)
    until_edge = _integral(edges[:, :, None] - place[:, None, :])
    integrals = until_edge.diff(dim=1)
    has_width = width > 0
    # The division happens with a width of 1 where there is none, so that no gradient is NaN.
    safe = torch.where(has_width, width, 1.0)
    return torch.where(has_width[:, None, None], integrals / safe[:, None, None], 0.0)


def _integral(at: Tensor) -> Tensor:
    """Return the integral of the triangle max(0, 1 - |t|) from its left end to ``at``."""
    at = at.clamp(-1, 1)
    return 0.5 + at - 0.5 * at * at.abs()
