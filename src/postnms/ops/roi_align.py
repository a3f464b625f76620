"""RoIAlign (Mask R-CNN, arXiv 1703.06870) over a feature pyramid, for boxes of a whole batch in any order.

The figures are torchvision's (``aligned=False``). On other devices its kernel runs; on the CPU its backward pass
would take most of a training step of a small detector, since it works channel by channel on one thread. The
kernel here keeps the channels innermost, where they fill vector registers, and looks up the four neighbours of a
sample once for all of them.

r: boxes, C: channels, B: images, s: cells along a side of the output.
"""

import math
from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor

CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4
"""A box of this side is pooled from the level of stride 2^4 (feature pyramid networks, arXiv 1612.03144, Eq. 1)."""


def pool_pyramid(
    features: dict[str, Tensor],
    boxes: Tensor,
    image: Tensor,
    sizes: Sequence[tuple[int, int]],
    cells: int = 7,
    sampling_ratio: int = 2,
) -> Tensor:
    """RoIAlign of each box (r, 4) on the image (r,) and the pyramid level that it belongs to -> (r, C, s, s).

    ``features``: levels (B, C, H, W) from fine to coarse; ``sizes``: (height, width) in pixels of each image as
    the network saw it, padding apart. The output has the features' dtype.
    """
    levels = list(features.values())
    largest = [max(size[axis] for size in sizes) for axis in (0, 1)]
    scales = [2.0 ** round(math.log2(level.shape[2] / largest[0])) for level in levels]
    if len(levels) == 1:
        return roi_align(levels[0], boxes, image, cells, scales[0], sampling_ratio)
    finest, coarsest = (-math.log2(scale) for scale in (scales[0], scales[-1]))
    side = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    exact = CANONICAL_LEVEL + torch.log2(side / CANONICAL_SIDE) + 1e-6
    chosen = (exact.floor().clamp(finest, coarsest) - finest).long()
    rows = [(chosen == index).nonzero().squeeze(1) for index in range(len(levels))]
    pooled = [
        roi_align(level, boxes[row], image[row], cells, scale, sampling_ratio)
        for level, row, scale in zip(levels, rows, scales, strict=True)
    ]
    return torch.cat(pooled)[torch.argsort(torch.cat(rows))]


def roi_align(features: Tensor, boxes: Tensor, image: Tensor, cells: int, scale: float, sampling_ratio: int) -> Tensor:
    """RoIAlign on one level: features (B, C, H, W), boxes (r, 4), their images (r,) -> (r, C, s, s).

    ``scale``: cells of the level a pixel. No gradient reaches the boxes.
    """
    if features.device.type == "cpu" and features.dtype != torch.float16:
        return _RoIAlignCPU.apply(features, boxes, image, cells, scale, sampling_ratio)
    rois = torch.cat([image[:, None].to(boxes.dtype), boxes], dim=1)
    return torchvision.ops.roi_align(features, rois, cells, scale, sampling_ratio)


class _RoIAlignCPU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features, boxes, image, cells, scale, sampling_ratio):
        from postnms.ops import roi_align_cpu as kernel  # numba is slow to import, and of no use for other devices

        work = torch.float64 if features.dtype == torch.float64 else torch.float32
        rois, rows = (boxes.to(work) * scale).numpy(), image.numpy()
        last = features.detach().permute(0, 2, 3, 1).to(work).contiguous()
        pooled = kernel.forward(last.numpy(), rois, rows, cells, sampling_ratio)
        ctx.rois, ctx.rows, ctx.cells, ctx.sampling_ratio = rois, rows, cells, sampling_ratio
        ctx.shape, ctx.dtype = last.shape, features.dtype
        return torch.from_numpy(pooled).permute(0, 3, 1, 2).to(features.dtype)

    @staticmethod
    def backward(ctx, *gradients):
        from postnms.ops import roi_align_cpu as kernel

        work = torch.float64 if ctx.dtype == torch.float64 else torch.float32
        last = gradients[0].permute(0, 2, 3, 1).to(work).contiguous()
        out = last.new_zeros(ctx.shape)
        kernel.backward(last.numpy(), ctx.rois, ctx.rows, ctx.cells, ctx.sampling_ratio, out.numpy())
        return out.permute(0, 3, 1, 2).to(ctx.dtype), None, None, None, None, None
