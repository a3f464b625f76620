"""The decoupling layer: it keeps the stage's gradient from pulling the detector's features directly (Eq. 4)."""

from torch import Tensor, nn


class DecouplingLayer(nn.Module):
    """3x3 convolution without activation on every pyramid level: F_post = conv(F_pre)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        nn.init.kaiming_uniform_(self.conv.weight, a=1)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Levels (B, C, H, W) by name -> levels (B, C', H, W) by name."""
        return {name: self.conv(level) for name, level in features.items()}
