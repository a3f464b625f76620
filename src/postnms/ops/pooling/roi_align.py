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
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from postnms.devices import constant, number_of_each
from postnms.ops.checks import check_count
from postnms.ops.pooling.checks import check_pooling
from postnms.ops.threads import share, split

CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4
"""A box of this side, in pixels, is pooled from the level of stride 2 ** ``CANONICAL_LEVEL``.

The rule is Eq. 1 of feature pyramid networks (arXiv 1612.03144).
"""


def pool_pyramid(
    features: Mapping[str, Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: Sequence[float],
    cells: int = 7,
    sampling_ratio: int = 2,
) -> Tensor:
    """Pool features for each box with RoIAlign, from the pyramid level that its size selects.

    Gradients flow into the features, but not into the boxes.

    Args:
        features: Levels (B, C, H, W) by name, from fine to coarse, of one dtype: float16, bfloat16,
            float32 or float64.
        boxes: (r, 4) of one of these dtypes, xyxy in pixels, of all images in any order. Half
            precision is computed in float32.
        image: (r,) of any integer dtype but uint64, the image of each box, 0..B-1.
        strides: For each level, the number of pixels between neighbouring cells. Each is twice the
            one before.
        cells: Number of cells s along a side of the output, at least 1.
        sampling_ratio: Number of sample points along each axis of an output cell, at least 1.

    Returns:
        (r, C, s, s), in the order of the boxes and in the dtype of the features.

    Raises:
        ValueError: If an argument is not as described above, or if the tensors are on different
            devices. The message begins with the name of the argument. Whether boxes are finite and
            in order, and whether images exist, is checked on a CPU only.

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
    if in_inference_graph():
        return torch.ops.postnms.pool_pyramid(
            list(features.values()), boxes, image, strides, cells, sampling_ratio
        )
    boxes, image = check_pooling(features, boxes, image, strides)
    check_count("cells", cells)
    check_count("sampling_ratio", sampling_ratio)
    return pool_checked(features, boxes, image, strides, cells, sampling_ratio)


def in_inference_graph() -> bool:
    """Tell whether a graph is being compiled or exported that needs no gradient.

    Pooling reads values, and its kernel is no part of torch. Such a graph holds it as an operator.
    """
    return torch.compiler.is_compiling() and not torch.is_grad_enabled()


torch.library.define(
    "postnms::pool_pyramid",
    "(Tensor[] features, Tensor boxes, Tensor image, float[] strides, int cells, "
    "int sampling_ratio) -> Tensor",
)


@torch.library.impl("postnms::pool_pyramid", "CompositeExplicitAutograd")
def _pool_pyramid(
    features: list[Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: list[float],
    cells: int,
    sampling_ratio: int,
) -> Tensor:
    levels = {str(index): level for index, level in enumerate(features)}
    return pool_pyramid(levels, boxes, image, strides, cells, sampling_ratio)


@torch.library.register_fake("postnms::pool_pyramid")
def _(
    features: list[Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: list[float],
    cells: int,
    sampling_ratio: int,
) -> Tensor:
    return features[0].new_empty(boxes.shape[0], features[0].shape[1], cells, cells)


def pool_checked(
    features: Mapping[str, Tensor],
    boxes: Tensor,
    image: Tensor,
    strides: Sequence[float],
    cells: int,
    sampling_ratio: int,
) -> Tensor:
    """Do the work of :func:`pool_pyramid`, for what ``check_pooling`` has returned."""
    levels = list(features.values())
    chosen = level_of(boxes, strides)
    if boxes.device.type == "cpu" and levels[0].dtype != torch.float16:
        return _PoolOnCPU.apply(
            in_cells(boxes, chosen, strides), image, chosen, cells, sampling_ratio, *levels
        )
    # Its import takes more memory than an evaluation, which imports this file but never pools.
    from torchvision.ops import roi_align

    work = dtype_of_sums(levels[0].dtype)
    rois = torch.cat([image[:, None].to(work), boxes.to(work)], dim=1)
    # Sorted by level, with the number of boxes of each on the host, which waits for a GPU once.
    order = torch.argsort(chosen, stable=True)
    rows = order.split(number_of_each(chosen, len(levels)).tolist())
    pooled = [
        roi_align(level.to(work), rois[row], cells, 1 / stride, sampling_ratio)
        for level, row, stride in zip(levels, rows, strides, strict=True)
    ]
    # The boxes were pooled level by level. Sorting their row numbers restores the order.
    return torch.cat(pooled)[torch.argsort(order)].to(levels[0].dtype)


def level_of(boxes: Tensor, strides: Sequence[float]) -> Tensor:
    """Return the level from which each box (r, 4) is pooled: (r,) int64, 0 for the finest level.

    ``strides``: pixels between the cells of each level, from fine to coarse. The level follows from
    the square root of the area (arXiv 1612.03144, Eq. 1), and is limited to the existing levels.
    """
    finest, coarsest = math.log2(strides[0]), math.log2(strides[-1])
    # A side may be infinite, and 0 times infinity is not a number. Such a box has no area either.
    side = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).nan_to_num(0.0)
    # The small term absorbs rounding: a box of the canonical side must not fall a level lower.
    exact = CANONICAL_LEVEL + torch.log2(side / CANONICAL_SIDE) + 1e-6
    return (exact.floor().clamp(finest, coarsest) - finest).long()


def in_cells(boxes: Tensor, level: Tensor, strides: Sequence[float]) -> Tensor:
    """Convert boxes (r, 4) from pixels to cells of their ``level`` (r,)."""
    shares = [1 / stride for stride in strides]
    return boxes * constant(shares, boxes.dtype, boxes.device)[level, None]


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
        arrays = tuple(map(as_numpy, last))
        target = as_numpy(pooled)
        share(
            partial(kernel.forward, arrays, *ctx.where, target),
            split(len(rois), multiply_adds(pooled, sampling_ratio)),
        )
        return pooled

    @staticmethod
    def backward(ctx, *gradients):
        from postnms.ops.pooling import cpu as kernel

        last = tuple(torch.zeros(shape, dtype=ctx.work, device="cpu") for shape in ctx.shapes)
        arrays = tuple(map(as_numpy, last))
        given = as_numpy(gradients[0].contiguous())
        share(
            partial(kernel.backward, arrays, *ctx.where, given),
            split(len(last[0]), multiply_adds(gradients[0], ctx.where[-1])),
        )
        return (
            None,
            None,
            None,
            None,
            None,
            *(array.permute(0, 3, 1, 2).to(ctx.dtype) for array in last),
        )


def dtype_of_sums(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which features of ``dtype`` are summed: float64 or float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def channels_last(features: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Copy levels (B, C, H, W) to (B, H, W, C), detached, in the dtype in which they are summed."""
    work = dtype_of_sums(features[0].dtype)
    return tuple(feature.detach().permute(0, 2, 3, 1).to(work).contiguous() for feature in features)


def as_numpy(tensor: Tensor) -> np.ndarray:
    """Return an array that shares the tensor's memory.

    numpy lacks bfloat16. Such a tensor is returned as the uint16 of its bits.
    """
    tensor = tensor.resolve_neg()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def multiply_adds(pooled: Tensor, sampling_ratio: int) -> int:
    """Return how many products the kernel adds up for ``pooled``: four a sample of each number."""
    return 4 * sampling_ratio**2 * pooled.numel()
