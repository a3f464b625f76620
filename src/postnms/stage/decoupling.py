"""The decoupling layer: F_post = conv(F_pre) (paper: section 3.2, Eq. 4).

It keeps the gradient of the stage from pulling at the features of the detector directly. The layer
has no activation, so it commutes with RoIAlign: it may run before the pooling, or at the boxes
alone.

r: boxes, s: cells along a side of the pooled features, B: images, C, C': channels before and after
the layer.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from postnms.ops.pooling.convolved import pool_convolved
from postnms.ops.pooling.roi_align import in_inference_graph, level_of, pool_pyramid
from postnms.structures import Level

Pooler = Callable[[Tensor, Tensor], Tensor]
"""Pools boxes (r, 4) of the images (r,) into features (r, C', s, s), in the order of the boxes."""
PIXELS_OF_A_CELL = 1.5
"""Break-even point: pooling one RoI cell at the boxes costs as much as convolving this many pixels
of a level.

``benchmarks/decoupling.py`` measures it on a CPU with 2 cores, near the number of boxes for which
both orders take the same time. It is 1.2 to 1.4 at 256 channels and 1.5 to 2 at 64 channels, with
and without the backward pass.
"""


class DecouplingLayer(nn.Module):
    """3x3 convolution without activation on every pyramid level: F_post = conv(F_pre), Eq. 4.

    One convolution serves all levels, as in the paper. Levels with different numbers of channels,
    as SSD has them, get one convolution each.

    Args:
        levels: the pyramid levels by name, from fine to coarse.
        out_channels: number of channels C' of every level of F_post.
    """

    def __init__(self, levels: Mapping[str, Level], out_channels: int) -> None:
        super().__init__()
        widths = {level.channels for level in levels.values()}
        if len(widths) == 1:
            self.conv = _linear_conv(widths.pop(), out_channels)
        else:
            self.conv = nn.ModuleDict(
                {name: _linear_conv(lv.channels, out_channels) for name, lv in levels.items()}
            )

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convolve all levels: (B, C, H, W) by name -> (B, C', H, W) by name."""
        if isinstance(self.conv, nn.ModuleDict):
            return {name: self.conv[name](level) for name, level in features.items()}
        return {name: self.conv(level) for name, level in features.items()}

    def pooler(
        self, features: dict[str, Tensor], strides: Sequence[int], cells: int, count: int
    ) -> Pooler:
        """Return a function that pools F_post with RoIAlign.

        Many boxes: the levels are convolved, then pooled. Few boxes on a CPU: the convolution runs
        at the boxes only, since to convolve whole levels would dominate the cost of the stage. Both
        give the same values, up to rounding.

        Args:
            features: levels (B, C, H, W) of F_pre by name, from fine to coarse.
            strides: for each level, the number of pixels between neighbouring cells.
            cells: number of cells s along a side of the pooled features.
            count: number of boxes that the function will pool over all of its calls.
        """
        if in_inference_graph():
            layers = self.conv.values() if isinstance(self.conv, nn.ModuleDict) else [self.conv]
            tensors = zip(*map(_weight_and_bias, layers), strict=True)
            return _pooler_in_graph(features, strides, cells, count, *map(list, tensors))
        pixels = sum(
            level.shape[0] * level.shape[2] * level.shape[3] for level in features.values()
        )
        on_cpu = all(level.device.type == "cpu" for level in features.values())
        if on_cpu and count * cells**2 * PIXELS_OF_A_CELL < pixels:
            return lambda boxes, image: self._pool_convolved(features, boxes, image, strides, cells)
        # The levels are convolved once, however many calls the boxes are divided into.
        convolved = self(features)
        return lambda boxes, image: pool_pyramid(convolved, boxes, image, strides, cells)

    def _pool_convolved(
        self,
        features: dict[str, Tensor],
        boxes: Tensor,
        image: Tensor,
        strides: Sequence[int],
        cells: int,
    ) -> Tensor:
        """Pool the boxes as if the levels were convolved, without convolving them."""
        if not isinstance(self.conv, nn.ModuleDict):
            return pool_convolved(
                features, boxes, image, strides, *_weight_and_bias(self.conv), cells
            )
        # Each level has its own kernel here, so the boxes are pooled level by level.
        level = level_of(boxes, strides)
        rows = [(level == index).nonzero().squeeze(1) for index in range(len(features))]
        pooled = [
            pool_convolved(
                {name: features[name]},
                boxes[row],
                image[row],
                [stride],
                *_weight_and_bias(conv),
                cells,
            )
            for (name, conv), row, stride in zip(self.conv.items(), rows, strides, strict=True)
        ]
        # Sorting the row numbers restores the order of the boxes.
        return torch.cat(pooled)[torch.argsort(torch.cat(rows))]


def _pooler_in_graph(
    features: dict[str, Tensor],
    strides: Sequence[int],
    cells: int,
    count: int,
    weights: list[Tensor],
    biases: list[Tensor],
) -> Pooler:
    """Return a function that pools F_post by the operator of ``stage/graphs.py``."""
    levels = list(features.values())
    device = levels[0].device.type
    if torch.is_autocast_enabled(device):
        # A graph casts what its operations take, and does not look into an operator.
        dtype = torch.get_autocast_dtype(device)
        levels, weights, biases = (
            [tensor.to(dtype) for tensor in column] for column in (levels, weights, biases)
        )
    return lambda boxes, image: torch.ops.postnms.pool_decoupled(
        levels, boxes, image, strides, cells, count, weights, biases
    )


def _linear_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return conv


def _weight_and_bias(conv: nn.Module) -> tuple[Tensor, Tensor]:
    return conv.get_parameter("weight"), conv.get_parameter("bias")
