"""RoIAlign over a feature pyramid, for the boxes of a whole batch in any order.

RoIAlign is from Mask R-CNN (arXiv 1703.06870).

The results are those of torchvision with ``aligned=False``. Its kernel runs on other devices than
the CPU, and for float16. On the CPU its backward pass would dominate a training step of a small
detector, since it works channel by channel on one thread. The CPU kernel of this library keeps the
channels innermost, where they fill vector registers, and looks up the four neighbours of a sample
once for all channels.

r: boxes, C: channels, B: images, s: cells along a side of the output.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
import torchvision
from torch import Tensor

CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4
"""A box of this side, in pixels, is pooled from the level of stride 2 ** ``CANONICAL_LEVEL``.

The rule is Eq. 1 of feature pyramid networks (arXiv 1612.03144).
"""


def pool_pyramid(
    features: dict[str, Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: Sequence[int],
    cells: int = 7,
    sampling_ratio: int = 2,
) -> Tensor:
    """Pool features for each box with RoIAlign, from the pyramid level that its size selects.

    Gradients flow into the features, but not into the boxes.

    Args:
        features: Levels (B, C, H, W) by name, from fine to coarse. Each level is twice as coarse as
            the one before.
        boxes: (r, 4) floating, xyxy in pixels, of all images in any order.
        image: (r,) int64, the image of each box, 0..B-1.
        strides: For each level, the number of pixels between neighbouring cells.
        cells: Number of cells s along a side of the output.
        sampling_ratio: Number of sample points along each axis of an output cell.

    Returns:
        (r, C, s, s), in the order of the boxes and in the dtype of the features.

    Example:
        >>> import torch
        >>> from postnms.ops import pool_pyramid
        >>> features = {"0": torch.full((1, 2, 8, 8), 3.0)}
        >>> boxes = torch.tensor([[0.0, 0, 16, 16], [8, 8, 24, 24]])
        >>> image = torch.tensor([0, 0])
        >>> pooled = pool_pyramid(features, boxes, image, strides=[4], cells=2)
        >>> pooled.shape
        torch.Size([2, 2, 2, 2])
        >>> pooled[0, 0].tolist()
        [[3.0, 3.0], [3.0, 3.0]]
    """
    levels = list(features.values())
    chosen = level_of(boxes, strides)
    if boxes.device.type == "cpu" and levels[0].dtype != torch.float16:
        return _PoolOnCPU.apply(
            in_cells(boxes, chosen, strides), image, chosen, cells, sampling_ratio, *levels
        )
    rois = torch.cat([image[:, None].to(boxes.dtype), boxes], dim=1)
    rows = [(chosen == index).nonzero().squeeze(1) for index in range(len(levels))]
    pooled = [
        torchvision.ops.roi_align(
            level.to(boxes.dtype), rois[row], cells, 1 / stride, sampling_ratio
        )
        for level, row, stride in zip(levels, rows, strides, strict=True)
    ]
    # The boxes were pooled level by level. Sorting their row numbers restores the order.
    return torch.cat(pooled)[torch.argsort(torch.cat(rows))].to(levels[0].dtype)


def level_of(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """Return the level from which each box (r, 4) is pooled: (r,) int64, 0 for the finest level.

    ``strides``: pixels between the cells of each level, from fine to coarse. The level follows from
    the square root of the area (arXiv 1612.03144, Eq. 1), and is limited to the existing levels.
    """
    finest, coarsest = math.log2(strides[0]), math.log2(strides[-1])
    side = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    # The small term absorbs rounding: a box of the canonical side must not fall a level lower.
    exact = CANONICAL_LEVEL + torch.log2(side / CANONICAL_SIDE) + 1e-6
    return (exact.floor().clamp(finest, coarsest) - finest).long()


def in_cells(boxes: Tensor, level: Tensor, strides: Sequence[int]) -> Tensor:
    """Convert boxes (r, 4) from pixels to cells of their ``level`` (r,). Takes CPU tensors."""
    shares = [1 / stride for stride in strides]
    return boxes * torch.tensor(shares, dtype=boxes.dtype, device="cpu")[level, None]


class _PoolOnCPU(torch.autograd.Function):
    """RoIAlign with the numba kernels.

    The inputs are the boxes (r, 4) in cells of their level, the image and the level of each box,
    ``cells`` and ``sampling_ratio`` as in :func:`pool_pyramid`, and then the levels.
    """

    @staticmethod
    def forward(ctx, rois, image, level, cells, sampling_ratio, *features):
        from postnms.ops.pooling import cpu as kernel

        last = channels_last(features)
        ctx.where = (rois.to(last[0].dtype).numpy(), image.numpy(), level.numpy(), sampling_ratio)
        ctx.shapes = [array.shape for array in last]
        ctx.work = last[0].dtype
        ctx.dtype = features[0].dtype
        pooled = torch.empty(
            len(rois), features[0].shape[1], cells, cells, dtype=ctx.dtype, device="cpu"
        )
        with threads_of_torch():
            kernel.forward(
                tuple(array.numpy() for array in last), *ctx.where, pooled=as_numpy(pooled)
            )
        return pooled

    @staticmethod
    def backward(ctx, *gradients):
        from postnms.ops.pooling import cpu as kernel

        last = tuple(torch.zeros(shape, dtype=ctx.work, device="cpu") for shape in ctx.shapes)
        with threads_of_torch():
            arrays = tuple(array.numpy() for array in last)
            given = as_numpy(gradients[0].contiguous())
            kernel.backward(arrays, *ctx.where, gradients=given)
        return (
            None,
            None,
            None,
            None,
            None,
            *(array.permute(0, 3, 1, 2).to(ctx.dtype) for array in last),
        )


def channels_last(features: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Copy levels (B, C, H, W) to (B, H, W, C), detached, in the dtype in which the kernels sum.

    This is float64 for float64 features, and float32 otherwise.
    """
    work = torch.float64 if features[0].dtype == torch.float64 else torch.float32
    return tuple(feature.detach().permute(0, 2, 3, 1).to(work).contiguous() for feature in features)


def as_numpy(tensor: Tensor) -> np.ndarray:
    """Return an array that shares the tensor's memory.

    numpy lacks bfloat16. Such a tensor is returned as the uint16 of its bits.
    """
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


@contextmanager
def threads_of_torch() -> Iterator[None]:
    """Limit numba's parallel loops to the number of threads that torch uses.

    Afterwards numba uses all the threads with which it was started.
    """
    import numba

    most = _launch_numba()
    numba.set_num_threads(min(torch.get_num_threads(), most))
    try:
        yield
    finally:
        numba.set_num_threads(most)


@cache
def _launch_numba() -> int:
    """Start numba's threads, once a process, and return their number."""
    import numba

    # Starting them changes the number of threads that torch uses, so that is restored.
    torch_threads = torch.get_num_threads()
    most = numba.get_num_threads()
    torch.set_num_threads(torch_threads)
    return most
