"""Numbers as sines and cosines of many wavelengths, as networks read places."""

import math

import torch
from torch import Tensor


def waves(values: Tensor, count: int, longest: float) -> Tensor:
    """Return sines and cosines of values (...): (..., count).

    The wavelengths rise from 2 pi to nearly ``longest`` times that, each by the same factor
    (arXiv 1706.03762, section 3.5). All sines come first. ``count`` is even.

    Example:
        >>> import torch
        >>> from postnms.rescoring.waves import waves
        >>> waves(torch.tensor([0.0, torch.pi / 2]), count=2, longest=1000.0).round().tolist()
        [[0.0, 1.0], [1.0, -0.0]]
    """
    exponents = torch.arange(0, count, 2) / count
    angles = values[..., None] * torch.exp(-math.log(longest) * exponents)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
