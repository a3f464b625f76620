"""The decoupling layer: it keeps the stage's gradient from pulling the detector's features directly (Eq. 4)."""

from collections.abc import Mapping

from torch import Tensor, nn

from postnms.structures import Level


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
            self.conv = nn.ModuleDict({name: _linear_conv(lv.channels, out_channels) for name, lv in levels.items()})

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Levels (B, C, H, W) by name -> levels (B, C', H, W) by name."""
        if isinstance(self.conv, nn.ModuleDict):
            return {name: self.conv[name](level) for name, level in features.items()}
        return {name: self.conv(level) for name, level in features.items()}


def _linear_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return conv
