"""What the heads have in common: two layers on pooled features, one number for each class.

r: boxes, C: channels of the pooled features, K: classes.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from postnms.errors import UserError
from postnms.rivals.config import DensityHeadConfig, IoUHeadConfig
from postnms.rivals.jitter import MovedBoxes
from postnms.structures import Level, Targets

Settings = TypeVar("Settings", IoUHeadConfig, DensityHeadConfig)
POOLED_SIDE = 7
"""Number of cells along each side of a pooled RoI feature."""


class ClassWiseHead(nn.Module, Generic[Settings]):
    """Two fully connected layers, and a linear one with an output for each class.

    Args:
        config: settings of the head.
        levels: the pyramid levels that boxes are pooled from, by name, from fine to coarse. They
            have equal channels.
        num_classes: number of classes, without a background class.

    Raises UserError if the levels differ in their channels.
    """

    def __init__(self, config: Settings, levels: Mapping[str, Level], num_classes: int) -> None:
        super().__init__()
        self.config = config
        channels = {level.channels for level in levels.values()}
        if len(channels) != 1:
            raise UserError(
                "heads: expected a detector whose pyramid levels have equal numbers of channels, "
                f"got {sorted(channels)}"
            )
        self.levels = dict(levels)
        self.trunk = TwoMLPHead(channels.pop() * POOLED_SIDE**2, config.width)
        self.output = nn.Linear(config.width, num_classes)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)

    def pooled_levels(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the levels (B, C, H, W) in their order."""
        return {name: features[name] for name in self.levels}

    @property
    def strides(self) -> list[int]:
        """Stride of each level."""
        return [level.stride for level in self.levels.values()]

    def at_moved(
        self, features: Mapping[str, Tensor], moved: MovedBoxes, targets: Targets
    ) -> Tensor:
        """Return what the head says of boxes near objects, for the classes of the objects: (r,)."""
        image, labels = targets.image[moved.truth], targets.labels[moved.truth]
        return self(features, moved.boxes, image, labels)

    def score(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """Return the output for the class of each box: (r,) float32.

        ``pooled`` is (r, C, 7, 7), ``labels`` (r,) int64.
        """
        outputs = self.output(self.trunk(pooled)).float()
        return outputs[torch.arange(len(labels), device=labels.device), labels]
