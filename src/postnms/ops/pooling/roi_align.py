"""RoIAlign (Mask R-CNN, arXiv 1703.06870) over a feature pyramid, for boxes of a whole batch in any order.

The figures are torchvision's (``aligned=False``). On other devices its kernel runs; on the CPU its backward pass
would take most of a training step of a small detector, since it works channel by channel on one thread. The
kernel here keeps the channels innermost, where they fill vector registers, and looks up the four neighbours of a
sample once for all of them.

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
"""A box of this side is pooled from the level of stride 2^4 (feature pyramid networks, arXiv 1612.03144, Eq. 1)."""


def pool_pyramid(
    features: dict[str, Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: Sequence[int],
    cells: int = 7,
    sampling_ratio: int = 2,
) -> Tensor:
    """RoIAlign of each box (r, 4) on the image (r,) and the pyramid level that it belongs to -> (r, C, s, s).

    ``features``: levels (B, C, H, W) from fine to coarse, each twice as coarse as the one before; ``strides``: the
    pixels of a cell of each. The output has the features' dtype. No gradient reaches the boxes.
    """
    levels, chosen = list(features.values()), level_of(boxes, strides)
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
    return torch.cat(pooled)[torch.argsort(torch.cat(rows))].to(levels[0].dtype)


def level_of(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """(r,) int64: the level that each box is pooled from, 0 for the finest."""
    finest, coarsest = math.log2(strides[0]), math.log2(strides[-1])
    side = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    exact = CANONICAL_LEVEL + torch.log2(side / CANONICAL_SIDE) + 1e-6
    return (exact.floor().clamp(finest, coarsest) - finest).long()


def in_cells(boxes: Tensor, level: Tensor, strides: Sequence[int]) -> Tensor:
    """Boxes (r, 4) in pixels -> in cells of their levels (r,)."""
    return boxes * torch.tensor([1 / stride for stride in strides], dtype=boxes.dtype)[level, None]


class _PoolOnCPU(torch.autograd.Function):
    """Boxes in cells of their own level, (r, 4), and where each of them is; then the levels."""

    @staticmethod
    def forward(ctx, rois, image, level, cells, sampling_ratio, *features):
        from postnms.ops.pooling import cpu as kernel

        last = channels_last(features)
        ctx.where = (rois.to(last[0].dtype).numpy(), image.numpy(), level.numpy(), sampling_ratio)
        ctx.shapes, ctx.work, ctx.dtype = (
            [array.shape for array in last],
            last[0].dtype,
            features[0].dtype,
        )
        pooled = torch.empty(len(rois), features[0].shape[1], cells, cells, dtype=ctx.dtype)
        with threads_of_torch():
            kernel.forward(
                tuple(array.numpy() for array in last), *ctx.where, pooled=as_numpy(pooled)
            )
        return pooled

    @staticmethod
    def backward(ctx, *gradients):
        from postnms.ops.pooling import cpu as kernel

        last = tuple(torch.zeros(shape, dtype=ctx.work) for shape in ctx.shapes)
        with threads_of_torch():
            arrays, given = (
                tuple(array.numpy() for array in last),
                as_numpy(gradients[0].contiguous()),
            )
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
    """Levels (B, C, H, W) -> (B, H, W, C), in the dtype that the kernels sum in."""
    work = torch.float64 if features[0].dtype == torch.float64 else torch.float32
    return tuple(feature.detach().permute(0, 2, 3, 1).to(work).contiguous() for feature in features)


def as_numpy(tensor: Tensor) -> np.ndarray:
    """The tensor's memory; bfloat16, which numpy lacks, as the uint16 of its bits."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


@contextmanager
def threads_of_torch() -> Iterator[None]:
    """Let numba's parallel loops run on no more threads than torch uses, and restore their number afterwards."""
    import numba

    most = _launch_numba()
    numba.set_num_threads(min(torch.get_num_threads(), most))
    try:
        yield
    finally:
        numba.set_num_threads(most)


@cache
def _launch_numba() -> int:
    """Start numba's threads; returns their number. That changes how many torch uses, which is put back."""
    import numba

    own = torch.get_num_threads()
    most = numba.get_num_threads()
    torch.set_num_threads(own)
    return most
