"""One step of training."""

import math
from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer

from postnms.data.loader import Batch, seeded_generator
from postnms.errors import UserError
from postnms.recipes import TrainingConfig
from postnms.runs.folder import RunFolder
from postnms.structures import move


def training_step(
    model: torch.nn.Module,
    optimizer: Optimizer,
    batch: Batch,
    config: TrainingConfig,
    accelerator: Accelerator,
    generators: Sequence[torch.Generator] | None = None,
) -> dict[str, Tensor]:
    """One update; returns the losses before it, detached, and ``gradient_norm`` if it is not finite (no update)."""
    device = accelerator.device
    images = [image.to(device, non_blocking=True) for image in batch.images]
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        losses = model(images, move(batch.targets, device), generators=generators).losses
    total = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(total)
    values = {name: loss.detach() for name, loss in losses.items()}
    norm = accelerator.clip_grad_norm_(
        model.parameters(), math.inf if config.clip_norm is None else config.clip_norm
    )
    if norm is not None and not bool(torch.isfinite(norm)):
        return values | {"gradient_norm": torch.as_tensor(norm)}
    if bool(torch.isfinite(total)):  # else the weights stay as they are for whoever looks into it
        optimizer.step()
    return values


def step_generators(
    seed: int, iteration: int, images: int, accelerator: Accelerator
) -> list[torch.Generator]:
    """Of each image of this process, where its draws come from: a matter of seed, iteration and place in the batch.

    So neither the number of processes nor an interruption changes them.
    """
    places = range(
        accelerator.process_index, images * accelerator.num_processes, accelerator.num_processes
    )
    return [seeded_generator(seed, iteration, place, device=accelerator.device) for place in places]


def stop_unless_finite(losses: Mapping[str, Tensor], iteration: int, folder: RunFolder) -> None:
    """Raise UserError, with every loss term named, if one is NaN or infinite."""
    values = {name: float(loss) for name, loss in losses.items()}
    if all(math.isfinite(value) for value in values.values()):
        return
    terms = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    kept = (
        f"the last checkpoint is kept: {folder.checkpoint}"
        if folder.checkpoint.is_file()
        else "no checkpoint yet"
    )
    raise UserError(
        f"iteration {iteration}: a loss is not finite ({terms}); {kept}; try a lower training.lr"
    )
