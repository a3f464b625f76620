"""One training step, the source of its random draws, and the check of its losses."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer

from postnms.data.loader import Batch, seeded_generator
from postnms.errors import UserError
from postnms.recipes import TrainingConfig
from postnms.runs.folder import RunFolder
from postnms.structures import move
from postnms.training.precision import computing_in, precision_on


def training_step(
    model: torch.nn.Module,
    optimizer: Optimizer,
    batch: Batch,
    config: TrainingConfig,
    accelerator: Accelerator,
    generators: Sequence[torch.Generator] | None = None,
) -> dict[str, Tensor]:
    """Train on one batch: forward pass, backward pass, and one update of the weights.

    The weights are not updated if the sum of the losses or the norm of the gradient is not finite.

    Args:
        model: a detector in training mode.
        optimizer: the optimizer of its parameters.
        batch: this process's share of the batch.
        config: precision and limit of the gradient.
        accelerator: the processes that train together.
        generators: the source of the random draws, one for each image. None: torch's own generator.

    Returns:
        The losses before the update by name, as detached scalars: means over the parts of the
        batch. If the norm of the gradient is not finite, it is among them as ``gradient_norm``.
    """
    # The optimizer has the trained weights alone. Gradients that were left on frozen ones, by the
    # phase before or by the caller, would count in the norm.
    model.zero_grad(set_to_none=True)
    parts = [
        _backward(model, part, own, config, accelerator, last=last)
        for part, own, last in _parts(batch, generators, config.accumulation)
    ]
    values = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
    total = torch.stack(list(values.values())).sum()
    # An infinite limit clips nothing and still gives the norm.
    norm = accelerator.clip_grad_norm_(
        model.parameters(), math.inf if config.clip_norm is None else config.clip_norm
    )
    ends = [total, total if norm is None else torch.as_tensor(norm, device=total.device)]
    # The host waits for a GPU once.
    total_is_finite, norm_is_finite = torch.stack([end.isfinite() for end in ends]).tolist()
    if norm is not None and not norm_is_finite:
        return values | {"gradient_norm": torch.as_tensor(norm)}
    # After a loss that is not finite the weights stay as they are, so that the cause can be found.
    if total_is_finite:
        optimizer.step()
    return values


def _parts(
    batch: Batch, generators: Sequence[torch.Generator] | None, count: int
) -> Iterator[tuple[Batch, Sequence[torch.Generator] | None, bool]]:
    """Yield parts of a batch with the generators of their images, and whether each is the last."""
    size = len(batch.images) // count
    for start in range(0, count * size, size):
        rows = slice(start, start + size)
        own = None if generators is None else generators[rows]
        yield (batch if count == 1 else batch.images_from(rows)), own, start + size == count * size


def _backward(
    model: torch.nn.Module,
    batch: Batch,
    generators: Sequence[torch.Generator] | None,
    config: TrainingConfig,
    accelerator: Accelerator,
    *,
    last: bool,
) -> dict[str, Tensor]:
    """Add the gradient of one part of a batch. Return its losses by name, detached.

    Gradients are shared among the processes with the last part alone.
    """
    device = accelerator.device
    images = [image.to(device, non_blocking=True) for image in batch.images]
    with nullcontext() if last else accelerator.no_sync(model):
        with computing_in(precision_on(device, config.precision), model, device):
            losses = model(images, move(batch.targets, device), generators=generators).losses
        total = torch.stack(list(losses.values())).sum()
        accelerator.backward(total / config.accumulation)
    return {name: loss.detach() for name, loss in losses.items()}


def step_generators(
    seed: int, iteration: int, images: int, accelerator: Accelerator
) -> list[torch.Generator]:
    """Return a random generator for each image of this process.

    The generator depends on the seed, the iteration and the position of the image in the whole
    batch. So neither the number of processes nor an interruption changes the draws.

    Args:
        seed: the seed of the run.
        iteration: the iteration, counted from 0.
        images: number of images of this process.
        accelerator: the processes, which take the images of a batch in turn.
    """
    positions = range(
        accelerator.process_index, images * accelerator.num_processes, accelerator.num_processes
    )
    return [
        seeded_generator(seed, iteration, position, device=accelerator.device)
        for position in positions
    ]


def stop_unless_finite(losses: Mapping[str, Tensor], iteration: int, folder: RunFolder) -> None:
    """Raise UserError if a loss is NaN or infinite. The message has all losses by name."""
    values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
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
