"""The two small networks of the stage (paper: section 3.2).

One gives the objectness, p(object = 1 | class k), of a box (Eq. 2). The other gives its refinement,
box deltas that depend on the class.

r: rows, C: channels of the pooled features, K: classes.
"""

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from postnms.stage.config import StageConfig
from postnms.stage.encoding import class_encoding

POOLED_SIDE = 7
"""Number of cells along each side of a pooled RoI feature."""


class StageHeads(nn.Module):
    """Objectness and refinement of pooled features, given a class for each.

    Args:
        channels: number of channels C of the pooled features.
        num_classes: number of classes, without a background class.
        config: settings of the stage.
    """

    encoding: Tensor
    """(K, C) float32: the class encoding F_k, a buffer that is left out of state dicts. It is
    missing if the settings leave the encoding out."""

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
        # Deltas start near zero, so that an untrained stage hardly moves a box.
        for layer, std in ((self.objectness, 0.01), (self.refinement, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(
        self, pooled: Tensor, labels: Tensor, refined: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return objectness logits (r,) and refinement deltas (r, 4), both float32.

        Args:
            pooled: (r, C, 7, 7), the pooled features.
            labels: (r,) int64, the class of each row.
            refined: number of leading rows that deltas are returned for. None: all.
        """
        # Both trunks take rows of numbers. They are brought into that order once for both.
        conditioned = self._conditioned(pooled, labels).flatten(1)
        trunk = self.objectness_trunk(conditioned)
        logits = self.objectness(trunk).squeeze(1)
        for_refinement = (
            trunk[:refined]
            if self.refinement_trunk is None
            else self.refinement_trunk(conditioned[:refined])
        )
        return logits.float(), self.refinement(for_refinement).float()

    def _conditioned(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """Join the encoding of its class to each pooled feature, the same vector at each cell."""
        if self.join == "none":
            return pooled
        code = self.encoding[labels][:, :, None, None].to(pooled.dtype)
        return (
            pooled + code
            if self.join == "add"
            else torch.cat([pooled, code.expand_as(pooled)], dim=1)
        )
