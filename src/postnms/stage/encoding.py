"""Class encoding F_k: a fixed sinusoid of the class index (paper: section 3.2).

The base 1000 is that of Relation Networks (arXiv 1711.11575).

K: classes, d: channels.
"""

import torch
from torch import Tensor

from postnms.errors import UserError


def class_encoding(num_classes: int, channels: int, base: float = 1000.0) -> Tensor:
    """Return one vector for each class, which tells the stage the class of a box.

    ``F[k, 2i] = sin(k / base^(2i/d))`` and ``F[k, 2i+1] = cos(k / base^(2i/d))``, for 0 <= i < d/2.

    Args:
        num_classes: number of classes K, without a background class.
        channels: number of channels d of a vector, an even number.
        base: base of the wavelengths, above 1.

    Returns:
        (K, d) float32, values in [-1, 1].

    Raises:
        UserError: ``channels`` is odd.

    Example:
        >>> from postnms.stage.encoding import class_encoding
        >>> class_encoding(2, 4)
        tensor([[0.0000, 1.0000, 0.0000, 1.0000],
                [0.8415, 0.5403, 0.0316, 0.9995]])
    """
    if channels % 2:
        raise UserError(
            "class encoding: expected an even number of channels in the pyramid or stage, "
            f"got {channels}"
        )
    index = torch.arange(num_classes, dtype=torch.float64)[:, None]
    angle = index / base ** (torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    # Stacked and flattened, sines and cosines alternate along the channels.
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1).float()
