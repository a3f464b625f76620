"""RoIAlign over a feature pyramid as a 3x3 convolution would make it, without convolving the pyramid.

RoIAlign and a convolution without activation are both linear, and commute: nine poolings, of the map moved by a cell
each way, are contracted with the nine taps of the kernel. That is a matrix product of as many rows as there are pooled
cells, where the convolution has one for every cell of every level. Sample points are clamped to the map first and
moved after, onto zeros outside; the bias counts as often as samples do.

r: boxes, C, C': channels before and after the convolution, B: images, s: cells along a side of the output.
"""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from postnms.ops.pooling.roi_align import (
    as_numpy,
    channels_last,
    in_cells,
    level_of,
    pool_pyramid,
    threads_of_torch,
)

ROWS_AT_ONCE = 32
"""Boxes whose surroundings are contracted together on a CPU: 14 MB of them at 256 channels, which stay in the cache."""


def pool_convolved(
    features: dict[str, Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: Sequence[int],
    weight: Tensor,
    bias: Tensor,
    cells: int = 7,
) -> Tensor:
    """``pool_pyramid`` of ``conv2d(level, weight, bias, padding=1)`` of each level -> (r, C', s, s).

    ``weight`` (C', C, 3, 3), ``bias`` (C',); the rest as there, with two samples a cell each way. Autocast counts as
    it does for a convolution.
    """
    device = boxes.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    features = {name: level.to(dtype) for name, level in features.items()}
    weight, bias = weight.to(dtype), bias.to(dtype)
    if device != "cpu" or dtype == torch.float16:
        return _tap_by_tap(features, boxes, image, strides, weight, bias, cells).permute(0, 3, 1, 2)
    level = level_of(boxes, strides)
    rois, taps = in_cells(boxes, level, strides), weight.permute(0, 2, 3, 1).flatten(1)
    pooled = _PoolConvolvedOnCPU.apply(rois, image, level, cells, taps, bias, *features.values())
    return pooled.permute(0, 3, 1, 2)


def _tap_by_tap(
    features: dict[str, Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: Sequence[int],
    weight: Tensor,
    bias: Tensor,
    cells: int,
) -> Tensor:
    """(r, s, s, C') on any device."""
    ones = {name: torch.ones_like(level[:, :1]) for name, level in features.items()}
    total = pool_pyramid(ones, boxes, image, strides, cells).permute(0, 2, 3, 1) * bias
    around = {name: F.pad(level, (1, 1, 1, 1)) for name, level in features.items()}
    sizes = {name: level.shape[2:] for name, level in features.items()}
    for y, x in itertools.product(range(3), range(3)):
        moved = {name: around[name][..., y : y + h, x : x + w] for name, (h, w) in sizes.items()}
        pooled = pool_pyramid(moved, boxes, image, strides, cells)
        total = total + F.linear(pooled.permute(0, 2, 3, 1), weight[:, :, y, x])
    return total


class _PoolConvolvedOnCPU(torch.autograd.Function):
    """Boxes in cells of their own level, (r, 4), and where each of them is; taps (C', 9 C) and bias; then the levels.

    -> (r, s, s, C'). The surroundings of a box are nine times as large as what is pooled from it: they are made for
    some boxes at a time, and made again on the way back.
    """

    @staticmethod
    def forward(ctx, rois, image, level, cells, taps, bias, *features):
        last = channels_last(features)
        ctx.save_for_backward(rois, image, level, taps, *last)
        ctx.cells = cells
        pooled = taps.new_empty(len(rois), cells, cells, len(taps))
        for rows, around, covered in _surroundings(last, rois, image, level, cells, taps.dtype):
            torch.addmm(torch.outer(covered, bias), around, taps.T, out=pooled[rows].flatten(0, 2))
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        rois, image, level, taps, *last = ctx.saved_tensors
        of_taps, of_bias = (
            torch.zeros(taps.shape, dtype=last[0].dtype),
            torch.zeros(len(taps), dtype=last[0].dtype),
        )
        of_last = (
            [torch.zeros_like(array) for array in last] if any(ctx.needs_input_grad[6:]) else []
        )
        for rows, around, covered in _surroundings(last, rois, image, level, ctx.cells, taps.dtype):
            given = gradients[0][rows].flatten(0, 2)
            of_taps += given.T @ around
            of_bias += covered @ given
            if of_last:
                _spread(of_last, rois[rows], image[rows], level[rows], ctx.cells, given @ taps)
        of_levels = [array.permute(0, 3, 1, 2).to(taps.dtype) for array in of_last] or [None] * len(
            last
        )
        return None, None, None, None, of_taps.to(taps.dtype), of_bias.to(taps.dtype), *of_levels


def _surroundings(
    last: Sequence[Tensor],
    rois: Tensor,
    image: Tensor,
    level: Tensor,
    cells: int,
    dtype: torch.dtype,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Some boxes at a time: which, what is pooled from around their cells (n, 9 C), and the share of samples (n,)."""
    from postnms.ops.pooling import cpu as kernel

    arrays, most = tuple(array.numpy() for array in last), min(ROWS_AT_ONCE, len(rois))
    pooled = torch.empty(most, cells, cells, 3, 3, last[0].shape[3], dtype=dtype)
    covered = torch.empty(most, cells, cells, dtype=last[0].dtype)
    for begin in range(0, len(rois), ROWS_AT_ONCE):
        rows = slice(begin, min(begin + ROWS_AT_ONCE, len(rois)))
        where = (rois[rows].to(last[0].dtype).numpy(), image[rows].numpy(), level[rows].numpy())
        around, share = pooled[: len(where[0])], covered[: len(where[0])]
        with threads_of_torch():
            kernel.forward_around(arrays, *where, as_numpy(around), share.numpy())
        yield rows, around.flatten(3).flatten(0, 2), share.flatten().to(dtype)


def _spread(
    of_last: Sequence[Tensor],
    rois: Tensor,
    image: Tensor,
    level: Tensor,
    cells: int,
    gradients: Tensor,
) -> None:
    """Add to the levels' gradients what those of the surroundings (r s s, 9 C) give."""
    from postnms.ops.pooling import cpu as kernel

    arrays = tuple(array.numpy() for array in of_last)
    where = (rois.to(of_last[0].dtype).numpy(), image.numpy(), level.numpy())
    parts = -(-torch.get_num_threads() // len(of_last[0]))
    with threads_of_torch():
        kernel.backward_around(
            arrays, *where, parts, as_numpy(gradients.view(len(rois), cells, cells, 3, 3, -1))
        )
