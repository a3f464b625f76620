"""Class encoding F_k: a fixed sinusoid of the class index (paper: section 3.2; base as in Relation Networks)."""

import torch
from torch import Tensor

from postnms.errors import UserError


def class_encoding(num_classes: int, channels: int, base: float = 1000.0) -> Tensor:
    """Table (K, d) float32: ``F[k, 2i] = sin(k / base^(2i/d))``, ``F[k, 2i+1] = cos(k / base^(2i/d))``.

    Raises UserError unless ``channels`` is even.
    """
    if channels % 2:
        raise UserError(
            f"class encoding: expected an even number of channels in the pyramid or stage, got {channels}"
        )
    index = torch.arange(num_classes, dtype=torch.float64)[:, None]
    angle = index / base ** (torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1).float()
