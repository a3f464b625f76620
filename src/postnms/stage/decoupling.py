"""The decoupling layer: it keeps the stage's gradient from pulling the detector's features directly (Eq. 4).

r: boxes, s: cells along a side of what is pooled, B: images, C, C': channels before and after the layer.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from postnms.ops.pooling.convolved import pool_convolved
from postnms.ops.pooling.roi_align import level_of, pool_pyramid
from postnms.structures import Level

Pooler = Callable[[Tensor, Tensor], Tensor]
"""Boxes (r, 4) and the image of each (r,) -> what is pooled from them, (r, C', s, s)."""
PIXELS_OF_A_CELL = 1.5
"""Pixels of a level that are convolved in the time that one pooled cell takes without the convolution.

Measured on a CPU of 2 cores by ``benchmarks/decoupling.py``, near the number of boxes where both take the same time:
1.2 to 1.4 at 256 channels, forward and with the way back, 1.5 to 2 at 64.
"""


class DecouplingLayer(nn.Module):
    """3x3 convolution without activation on every pyramid level: F_post = conv(F_pre).

    One convolution serves all levels, as in the paper; levels of unequal width, as SSD has them, have one each.
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
        """Levels (B, C, H, W) by name -> levels (B, C', H, W) by name."""
        if isinstance(self.conv, nn.ModuleDict):
            return {name: self.conv[name](level) for name, level in features.items()}
        return {name: self.conv(level) for name, level in features.items()}

    def pooler(
        self, features: dict[str, Tensor], strides: Sequence[int], cells: int, count: int
    ) -> Pooler:
        """RoIAlign of F_post for ``count`` boxes in all: convolved first if they are many, at the boxes alone if few.

        Few is a matter of the CPU, where the convolution is most of what the stage costs.
        """
        pixels = sum(
            level.shape[0] * level.shape[2] * level.shape[3] for level in features.values()
        )
        on_cpu = all(level.device.type == "cpu" for level in features.values())
        if on_cpu and count * cells**2 * PIXELS_OF_A_CELL < pixels:
            return lambda boxes, image: self._pool_convolved(features, boxes, image, strides, cells)
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
        if not isinstance(self.conv, nn.ModuleDict):
            return pool_convolved(
                features, boxes, image, strides, *_weight_and_bias(self.conv), cells
            )
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
        return torch.cat(pooled)[torch.argsort(torch.cat(rows))]


def _linear_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return conv


def _weight_and_bias(conv: nn.Module) -> tuple[Tensor, Tensor]:
    return conv.get_parameter("weight"), conv.get_parameter("bias")
