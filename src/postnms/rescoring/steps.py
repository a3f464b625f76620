"""One step of an optimizer, what an epoch of steps gave, and the seeds of networks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from postnms.errors import UserError

Network = TypeVar("Network", bound=nn.Module)


@dataclass
class Epoch:
    """Sums over what the steps of an epoch have trained on."""

    judged: int = 0
    """Number of outputs that there was a target for, such as one of each box."""
    loss: float = 0.0
    right: int = 0
    """Number of outputs on the right side, before the step that learned from them."""

    def add(self, loss: Tensor, judged: int, right: int = 0) -> None:
        """Count a step. ``loss`` is its mean over ``judged`` outputs."""
        self.judged += judged
        self.loss += float(loss.detach()) * judged
        self.right += right

    @property
    def mean_loss(self) -> float:
        """The mean of the loss over all outputs."""
        return self.loss / self.judged


def take_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Change the parameters of an optimizer by one step down a loss.

    Raises UserError if the loss is not finite.
    """
    if not bool(loss.isfinite()):
        raise UserError(
            f"training has diverged: a loss is {float(loss.detach())}; lower lr, "
            f"which is {optimizer.param_groups[0]['lr']:g}"
        )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def seeded(build: Callable[[], Network], seed: int) -> Network:
    """Build a network whose first weights follow from the seed alone.

    Torch's global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
