"""What the heads have in common: two layers on pooled features, one number for each class.

r: boxes, C: channels of the pooled features, K: classes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from postnms.structures import Level

POOLED_SIDE = 7
"""Number of cells along each side of a pooled RoI feature."""


class ClassWiseHead(nn.Module):
    """Two fully connected layers, and a linear one with an output for each class.

    Args:
        levels: the pyramid levels that boxes are pooled from, which have equal channels.
        width: outputs of each of the first two layers.
        num_classes: number of classes, without a background class.

    Raises ValueError if the levels differ in their channels.
    """

    def __init__(self, levels: Mapping[str, Level], width: int, num_classes: int) -> None:
        super().__init__()
        channels = {level.channels for level in levels.values()}
        if len(channels) != 1:
            raise ValueError(
                f"levels: expected equal numbers of channels for heads, got {sorted(channels)}"
            )
        self.levels = dict(levels)
        self.trunk = TwoMLPHead(channels.pop() * POOLED_SIDE**2, width)
        self.output = nn.Linear(width, num_classes)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)

    def pooled_levels(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the levels (B, C, H, W) in their order."""
        return {name: features[name] for name in self.levels}

    @property
    def strides(self) -> list[int]:
        """Stride of each level."""
        return [level.stride for level in self.levels.values()]

    def score(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """Return the output for the class of each box: (r,) float32.

        ``pooled`` is (r, C, 7, 7), ``labels`` (r,) int64.
        """
        outputs = self.output(self.trunk(pooled)).float()
        return outputs[torch.arange(len(labels), device=labels.device), labels]
