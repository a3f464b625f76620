"""RoIAlign of a pyramid after a 3x3 convolution, without convolving the pyramid.

It serves the decoupling layer of the stage (paper: Eq. 4), if few boxes are pooled on a CPU.

RoIAlign and a convolution without activation are both linear, so their order may be exchanged. The
level is shifted by one cell in each direction, each of the nine shifted maps is pooled, and the
nine results are contracted with the nine taps of the kernel. This is a matrix product with one row
for each pooled cell, while the convolution has one row for each cell of every level.

At the border, sample points are clamped to the map before the shift. Shifted points outside the map
read 0, the padding of the convolution. The bias is weighted by the share of the samples that count.

r: boxes, C, C': channels before and after the convolution, B: images, s: cells along a side of the
output.
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
"""Number of boxes whose surroundings are contracted together on a CPU.

At 256 channels these take 14 MB, which stay in the cache.
"""


def pool_convolved(
    features: dict[str, Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: Sequence[int],
    weight: Tensor,
    bias: Tensor,
    cells: int = 7,
) -> Tensor:
    """Pool features for each box with RoIAlign, as if every level were convolved before.

    The result equals :func:`pool_pyramid` of ``conv2d(level, weight, bias, padding=1)``, up to
    rounding. Gradients flow into the features, the weight and the bias, but not into the boxes.

    Args:
        features: Levels (B, C, H, W) by name, from fine to coarse. Each level is twice as coarse as
            the one before.
        boxes: (r, 4) floating, xyxy in pixels, of all images in any order.
        image: (r,) int64, the image of each box, 0..B-1.
        strides: For each level, the number of pixels between neighbouring cells.
        weight: (C', C, 3, 3), the kernel of the convolution.
        bias: (C',), the bias of the convolution.
        cells: Number of cells s along a side of the output. Each has two samples along each axis.

    Returns:
        (r, C', s, s), in the order of the boxes. The dtype is that of autocast where autocast is
        enabled, as for a convolution, and that of ``weight`` otherwise.

    Example:
        >>> import torch
        >>> from postnms.ops import pool_convolved, pool_pyramid
        >>> conv = torch.nn.Conv2d(2, 3, kernel_size=3, padding=1)
        >>> level = torch.rand(1, 2, 8, 8)
        >>> where = torch.tensor([[0.0, 0, 16, 16]]), torch.tensor([0]), [4]
        >>> pooled = pool_convolved({"0": level}, *where, conv.weight, conv.bias)
        >>> pooled.shape
        torch.Size([1, 3, 7, 7])
        >>> torch.allclose(pooled, pool_pyramid({"0": conv(level)}, *where), atol=1e-5)
        True
    """
    device = boxes.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    features = {name: level.to(dtype) for name, level in features.items()}
    weight, bias = weight.to(dtype), bias.to(dtype)
    if device != "cpu" or dtype == torch.float16:
        return _tap_by_tap(features, boxes, image, strides, weight, bias, cells).permute(0, 3, 1, 2)
    level = level_of(boxes, strides)
    rois = in_cells(boxes, level, strides)
    # In the order in which the kernel writes the surroundings of a cell: dy, dx, channel.
    taps = weight.permute(0, 2, 3, 1).flatten(1)
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
    """Pool the nine shifted maps one after the other, on any device: (r, s, s, C')."""
    # Pooled ones are the share of the samples that count, which is the weight of the bias.
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
    """RoIAlign of the convolved levels with the numba kernels: (r, s, s, C').

    The inputs are the boxes (r, 4) in cells of their level, the image and the level of each box,
    the number of cells, the taps (C', 9 C), the bias, and then the levels.

    The surroundings of a box are nine times as large as its pooled features. They are computed for
    ``ROWS_AT_ONCE`` boxes at a time, and computed again in the backward pass.
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
        of_taps = torch.zeros(taps.shape, dtype=last[0].dtype, device="cpu")
        of_bias = torch.zeros(len(taps), dtype=last[0].dtype, device="cpu")
        # The levels of a frozen network need no gradient. The list then stays empty.
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
    """Pool the surroundings of the cells of up to ``ROWS_AT_ONCE`` boxes at a time.

    Yields the rows of the boxes as a slice, their surroundings (c, 9 C), and for each cell the
    share (c,) of its samples that count. c is the number of cells of these boxes. The two tensors
    are overwritten by the next step.
    """
    from postnms.ops.pooling import cpu as kernel

    arrays = tuple(array.numpy() for array in last)
    count = min(ROWS_AT_ONCE, len(rois))
    pooled = torch.empty(count, cells, cells, 3, 3, last[0].shape[3], dtype=dtype, device="cpu")
    covered = torch.empty(count, cells, cells, dtype=last[0].dtype, device="cpu")
    for begin in range(0, len(rois), ROWS_AT_ONCE):
        rows = slice(begin, min(begin + ROWS_AT_ONCE, len(rois)))
        where = (rois[rows].to(last[0].dtype).numpy(), image[rows].numpy(), level[rows].numpy())
        around = pooled[: len(where[0])]
        share = covered[: len(where[0])]
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
    """Add to the gradients of the levels, from the ``gradients`` (r s s, 9 C) of the surroundings.

    ``of_last``: the gradients of the levels, each (B, H, W, C).
    """
    from postnms.ops.pooling import cpu as kernel

    arrays = tuple(array.numpy() for array in of_last)
    where = (rois.to(of_last[0].dtype).numpy(), image.numpy(), level.numpy())
    # As many blocks of channels as give every thread a task, rounded up.
    blocks = -(-torch.get_num_threads() // len(of_last[0]))
    with threads_of_torch():
        kernel.backward_around(
            arrays, *where, blocks, as_numpy(gradients.view(len(rois), cells, cells, 3, 3, -1))
        )
