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
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from postnms.ops.checks import FLOATING, check_column, check_count, check_dense, check_device
from postnms.ops.pooling.checks import check_pooling
from postnms.ops.pooling.roi_align import (
    as_numpy,
    channels_last,
    in_cells,
    level_of,
    multiply_adds,
    pool_checked,
)
from postnms.ops.threads import share, split

ROWS_AT_ONCE = 32
"""Number of boxes whose surroundings are contracted together on a CPU.

At 256 channels these take 14 MB, which stay in the cache.
"""


def pool_convolved(
    features: Mapping[str, Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: Sequence[float],
    weight: Tensor,
    bias: Tensor,
    cells: int = 7,
) -> Tensor:
    """Pool features for each box with RoIAlign, as if every level were convolved before.

    The result equals :func:`pool_pyramid` of ``conv2d(level, weight, bias, padding=1)``, up to
    rounding. Gradients flow into the features, the weight and the bias, but not into the boxes.

    Args:
        features: Levels (B, C, H, W) by name, from fine to coarse, of one dtype: float16, bfloat16,
            float32 or float64.
        boxes: (r, 4) of one of these dtypes, xyxy in pixels, of all images in any order. Half
            precision is computed in float32.
        image: (r,) of any integer dtype but uint64, the image of each box, 0..B-1.
        strides: For each level, the number of pixels between neighbouring cells. Each is twice the
            one before.
        weight: (C', C, 3, 3) of one of these dtypes, the kernel of the convolution.
        bias: (C',) of one of these dtypes, the bias of the convolution.
        cells: Number of cells s along a side of the output. Each has two samples along each axis.

    Returns:
        (r, C', s, s), in the order of the boxes. The dtype is that of autocast where autocast is
        enabled, as for a convolution, and that of ``weight`` otherwise.

    Raises:
        ValueError: If an argument is not as described above, as :func:`pool_pyramid` does.

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
    boxes, image = check_pooling(features, boxes, image, strides)
    check_count("cells", cells)
    _check_layer(weight, bias, next(iter(features.values())))
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


def _check_layer(weight: Tensor, bias: Tensor, level: Tensor) -> None:
    """Raise ValueError unless the convolution fits a level (B, C, H, W)."""
    check_dense("weight", weight)
    check_column("weight", weight, ("C'", level.shape[1], 3, 3), FLOATING)
    check_device("weight", weight, level.device, "features")
    check_dense("bias", bias)
    check_column("bias", bias, weight.shape[:1], FLOATING)
    check_device("bias", bias, level.device, "features")


def _tap_by_tap(
    features: Mapping[str, Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: Sequence[float],
    weight: Tensor,
    bias: Tensor,
    cells: int,
) -> Tensor:
    """Pool the nine shifted maps one after the other, on any device: (r, s, s, C')."""
    # Pooled ones are the share of the samples that count, which is the weight of the bias.
    ones = {name: torch.ones_like(level[:, :1]) for name, level in features.items()}
    total = pool_checked(ones, boxes, image, strides, cells, 2).permute(0, 2, 3, 1) * bias
    around = {name: F.pad(level, (1, 1, 1, 1)) for name, level in features.items()}
    sizes = {name: level.shape[2:] for name, level in features.items()}
    for y, x in itertools.product(range(3), range(3)):
        moved = {name: around[name][..., y : y + h, x : x + w] for name, (h, w) in sizes.items()}
        pooled = pool_checked(moved, boxes, image, strides, cells, 2)
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

    arrays = tuple(map(as_numpy, last))
    count = min(ROWS_AT_ONCE, len(rois))
    pooled = torch.empty(count, cells, cells, 3, 3, last[0].shape[3], dtype=dtype, device="cpu")
    covered = torch.empty(count, cells, cells, dtype=last[0].dtype, device="cpu")
    for begin in range(0, len(rois), ROWS_AT_ONCE):
        rows = slice(begin, min(begin + ROWS_AT_ONCE, len(rois)))
        where = (rois[rows].to(last[0].dtype).numpy(), image[rows].numpy(), level[rows].numpy())
        around = pooled[: len(where[0])]
        counted = covered[: len(where[0])]
        targets = as_numpy(around), counted.numpy()
        share(
            partial(kernel.forward_around, arrays, *where, *targets),
            split(len(around), multiply_adds(around, sampling_ratio=1)),
        )
        yield rows, around.flatten(3).flatten(0, 2), counted.flatten().to(dtype)


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

    arrays = tuple(map(as_numpy, of_last))
    where = (rois.to(of_last[0].dtype).numpy(), image.numpy(), level.numpy())
    # As many blocks of channels as give every thread a task, rounded up.
    blocks = -(-torch.get_num_threads() // len(of_last[0]))
    given = as_numpy(gradients.view(len(rois), cells, cells, 3, 3, -1))
    share(
        partial(kernel.backward_around, arrays, *where, blocks, given),
        split(blocks * len(of_last[0]), multiply_adds(gradients, sampling_ratio=1)),
    )
