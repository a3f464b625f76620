"""The score of the stage: three scores become one (paper: section 3.4, Table 6).

d: boxes.
"""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from postnms.errors import UserError, shown

Mean = Literal["arithmetic", "geometric"]
"""How weights join scores."""
_MEANS: dict[str, Mean] = {"arithmetic": "arithmetic", "geometric": "geometric"}


def fuse(
    s_ori: Tensor,
    s_clu: Tensor,
    s_obj: Tensor,
    weights: tuple[float, float, float],
    mean: Mean = "arithmetic",
) -> Tensor:
    """Return the scores of the stage (Table 6).

    ``arithmetic``: ``w_ori * s_ori + w_clu * s_clu + w_obj * s_obj``, as in the paper.
    ``geometric``: ``s_ori ** w_ori * s_clu ** w_clu * s_obj ** w_obj``.

    Args:
        s_ori: (d,), the detector's score of each key.
        s_clu: (d,), the objectness of the representative box of each cluster.
        s_obj: (d,), the objectness of each key.
        weights: (w_ori, w_clu, w_obj).
        mean: how the weights join the scores.

    Returns:
        (d,).

    Example:
        >>> import torch
        >>> from postnms.stage.fusion import fuse
        >>> fuse(torch.tensor([0.5]), torch.tensor([1.0]), torch.tensor([0.0]), (0.8, 0.1, 0.1))
        tensor([0.5000])
    """
    w_ori, w_clu, w_obj = weights
    if mean == "geometric":
        return s_ori**w_ori * s_clu**w_clu * s_obj**w_obj
    return w_ori * s_ori + w_clu * s_clu + w_obj * s_obj


@dataclass(frozen=True)
class Fusion:
    """The settings of :func:`fuse`: what ``fusion`` and ``fusion_mean`` of a stage say."""

    weights: tuple[float, float, float]
    """(w_ori, w_clu, w_obj)."""
    mean: Mean = "arithmetic"

    def __call__(self, s_ori: Tensor, s_clu: Tensor, s_obj: Tensor) -> Tensor:
        """Return the scores (d,) of boxes from the three that :func:`fuse` explains."""
        return fuse(s_ori, s_clu, s_obj, self.weights, self.mean)

    def __str__(self) -> str:
        weights = ",".join(f"{weight:g}" for weight in self.weights)
        return weights if self.mean == "arithmetic" else f"{self.mean}:{weights}"

    @classmethod
    def parse(cls, text: str) -> "Fusion":
        """Read what ``str`` gives: ``0.8,0.1,0.1`` or ``geometric:0.5,0,0.5``.

        Raises UserError for any other text.
        """
        first, colon, rest = text.rpartition(":")
        try:
            w_ori, w_clu, w_obj = map(float, rest.split(","))
            if not all(map(math.isfinite, (w_ori, w_clu, w_obj))):
                raise ValueError("a weight is not finite")
            return cls((w_ori, w_clu, w_obj), _MEANS[first if colon else "arithmetic"])
        except (ValueError, KeyError) as error:
            raise UserError(
                "expected three finite weights, for s_ori, s_clu and s_obj, such as 0.8,0.1,0.1 or "
                f"geometric:0.5,0,0.5; got {shown(text)}",
                argument="fusion",
            ) from error
