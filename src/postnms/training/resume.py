"""Checkpoints of a run, and how a run continues from one."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.optim import Optimizer

from postnms.data.dataset import Category
from postnms.detectors import Detector
from postnms.errors import UserError
from postnms.recipes import Recipe, TrainingConfig
from postnms.runs.checkpoints import (
    load_tensors,
    own_state,
    restore_training_state,
    save_tensors,
    training_state,
)
from postnms.runs.folder import RunFolder, read_categories


def save_checkpoint(
    folder: RunFolder,
    recipe: Recipe,
    finished: int,
    detector: Detector,
    optimizer: Optimizer,
    accelerator: Accelerator,
) -> None:
    """Write the checkpoint of a run after ``finished`` iterations.

    All processes call this. Process 0 writes the file, with the random states of all processes.
    Raises UserError if the operating system refuses.
    """
    own = {
        f"{accelerator.process_index}.{name}": state
        for name, state in _generator_states(accelerator).items()
    }
    states = {name: state for part in gather_object([own]) for name, state in part.items()}
    if accelerator.is_main_process:
        about = {
            "finished": finished,
            "recipe": recipe.model_dump(mode="json"),
            "time": time.time(),
        }
        save_tensors(folder.checkpoint, training_state(detector, optimizer, states), about)


def resume_training(
    recipe: Recipe,
    folder: RunFolder,
    categories: tuple[Category, ...],
    detector: Detector,
    optimizer: Optimizer,
    accelerator: Accelerator,
) -> int:
    """Restore the checkpoint of a run into the detector, the optimizer and the random generators.

    Args:
        recipe: the recipe of the run, without any change.
        folder: the folder of the run.
        categories: the classes of the data, in the order of the labels.
        detector: the detector, which is changed in place.
        optimizer: the optimizer, which is changed in place.
        accelerator: the processes that train together.

    Returns:
        The iteration to continue with, counted from 0.

    Raises:
        UserError: the checkpoint is missing or not whole, or it belongs to another recipe, to
            other classes, or to another number of processes or other devices.
    """
    tensors, about = load_tensors(folder.checkpoint)
    if not isinstance(about.get("recipe"), dict):
        raise UserError(f"{folder.checkpoint}: recipe: expected an object, got another form")
    differences = recipe.differences(Recipe.parse(about["recipe"], str(folder.checkpoint)))
    if differences:
        raise UserError(f"{folder.checkpoint}: of another recipe: {'; '.join(differences[:3])}")
    if read_categories(folder) != categories:
        raise UserError(
            f"{folder.labels}: the run was trained on other classes than those of the data"
        )
    finished = _check_whole(tensors, about, recipe.training, detector, str(folder.checkpoint))
    states = restore_training_state(tensors, detector, optimizer, str(folder.checkpoint))
    here = [
        f"{rank}.{kind}"
        for rank in range(accelerator.num_processes)
        for kind in _generator_states(accelerator)
    ]
    if sorted(states) != sorted(here):
        raise UserError(
            f"{folder.checkpoint}: expected the random states {', '.join(here)} "
            f"of these processes and devices, got {', '.join(states)}"
        )
    torch.set_rng_state(states[f"{accelerator.process_index}.cpu"])
    if accelerator.device.type == "cuda":
        torch.cuda.set_rng_state(states[f"{accelerator.process_index}.cuda"])
    return finished


def _check_whole(
    tensors: Mapping[str, Tensor],
    about: Mapping[str, Any],
    config: TrainingConfig,
    detector: Detector,
    source: str,
) -> int:
    """Return the number of finished iterations. Raise UserError if a part of the state is missing.

    torch would fill up or cast a state that is not whole, and the run would go on to other results.
    """
    finished = about.get("finished")
    if type(finished) is not int or not 0 <= finished <= config.iterations:
        raise UserError(
            f"{source}: finished: expected 0 to {config.iterations} iterations, got {finished!r}"
        )
    weights = own_state(tensors)
    for name, value in detector.state_dict().items():
        if name in weights and weights[name].dtype != value.dtype:
            raise UserError(
                f"{source}: model.{name}: expected {value.dtype}, got {weights[name].dtype}"
            )
    has_state = config.optimizer == "adamw" or config.momentum > 0
    if finished and has_state and not any(name.startswith("optimizer.") for name in tensors):
        raise UserError(f"{source}: expected the state of the optimizer, got none")
    return finished


def _generator_states(accelerator: Accelerator) -> dict[str, Tensor]:
    """Return the states of torch's generators of this process, by the kind of their device."""
    states = {"cpu": torch.get_rng_state()}
    return states | (
        {"cuda": torch.cuda.get_rng_state()} if accelerator.device.type == "cuda" else {}
    )
