"""The two small networks of the stage: objectness given the class (Eq. 2), and class-conditioned refinement."""

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from postnms.stage.config import StageConfig
from postnms.stage.encoding import class_encoding

POOLED_SIDE = 7
"""Cells along each side of a pooled RoI feature."""


class StageHeads(nn.Module):
    """Pooled feature and class in, objectness logit and box deltas out. r: rows."""

    encoding: Tensor

    def __init__(self, channels: int, num_classes: int, config: StageConfig) -> None:
        super().__init__()
        self.join = config.encoding
        if config.encoding != "none":
            table = class_encoding(num_classes, channels, config.encoding_base)
            self.register_buffer("encoding", table, persistent=False)
        inputs = channels * POOLED_SIDE**2 * (2 if config.encoding == "concat" else 1)
        self.objectness_trunk = TwoMLPHead(inputs, config.width)
        self.refinement_trunk = None if config.shared_trunk else TwoMLPHead(inputs, config.width)
        self.objectness = nn.Linear(config.width, 1)
        self.refinement = nn.Linear(config.width, 4)
        for layer, std in ((self.objectness, 0.01), (self.refinement, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(
        self, pooled: Tensor, labels: Tensor, refined: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pooled features (r, C, 7, 7) and labels (r,) -> logits (r,) and deltas (r, 4), float32.

        Deltas are of the first ``refined`` rows; None: of all.
        """
        conditioned = self._conditioned(pooled, labels)
        trunk = self.objectness_trunk(conditioned)
        logits = self.objectness(trunk).squeeze(1)
        own = (
            trunk[:refined]
            if self.refinement_trunk is None
            else self.refinement_trunk(conditioned[:refined])
        )
        return logits.float(), self.refinement(own).float()

    def _conditioned(self, pooled: Tensor, labels: Tensor) -> Tensor:
        if self.join == "none":
            return pooled
        code = self.encoding[labels][:, :, None, None].to(pooled.dtype)
        return (
            pooled + code
            if self.join == "add"
            else torch.cat([pooled, code.expand_as(pooled)], dim=1)
        )
