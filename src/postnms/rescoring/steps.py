"""One step of an optimizer, and the seeds of networks."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from postnms.errors import UserError

Network = TypeVar("Network", bound=nn.Module)


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
