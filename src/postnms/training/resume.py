"""Checkpoints of a run, and how a run continues from one."""

import logging
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
from postnms.errors import UserError, shown
from postnms.files.tensor_files import save_tensors
from postnms.recipes import Recipe, TrainingConfig
from postnms.runs.checkpoints import (
    own_state,
    read_checkpoint,
    restore_training_state,
    training_state,
)
from postnms.runs.folder import RunFolder, read_categories
from postnms.training.optimizer import configured_rate

logger = logging.getLogger(__name__)

FREE_TO_CHANGE = (
    "data.workers",
    "data.cache",
    "training.iterations",
    "training.steps",
    "training.log_every",
    "training.checkpoint_every",
    "training.evaluate_every",
    "evaluation.batch_size",
    "evaluation.bootstrap",
)
"""Fields that may be others when a run goes on, as no finished iteration depends on them.

The learning rates of the finished iterations must stay the same.
"""


def save_checkpoint(
    folder: RunFolder,
    recipe: Recipe,
    data_digest: str,
    finished: int,
    detector: Detector,
    optimizer: Optimizer,
    accelerator: Accelerator,
) -> None:
    """Write the checkpoint of a run after ``finished`` iterations, and keep the one before it.

    All processes call this. Process 0 writes the file, with the random states of all processes.
    ``data_digest`` tells the data of the run from others. Raises UserError if the operating system
    refuses.
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
            "data_digest": data_digest,
            "time": time.time(),
        }
        tensors = training_state(detector, optimizer, states)
        save_tensors(folder.checkpoint, tensors, about, older=folder.older_checkpoint)


def resume_training(
    recipe: Recipe,
    data_digest: str,
    folder: RunFolder,
    categories: tuple[Category, ...],
    detector: Detector,
    optimizer: Optimizer,
    accelerator: Accelerator,
) -> int:
    """Restore the checkpoint of a run into the detector, the optimizer and the random generators.

    The recipe and the number of processes may differ from those of the checkpoint as far as no
    finished iteration depends on it. A line in the log says what differs.

    Args:
        recipe: the recipe to go on with. :data:`FREE_TO_CHANGE` may differ from the run's recipe.
        data_digest: tells the data from others. They must be those of the run.
        folder: the folder of the run.
        categories: the classes of the data, in the order of the labels.
        detector: the detector, which is changed in place.
        optimizer: the optimizer, which is changed in place.
        accelerator: the processes that train together.

    Returns:
        The iteration to continue with, counted from 0.

    Raises:
        UserError: the checkpoint is missing, damaged or not whole, or it belongs to another recipe,
            to other classes or to other data.
    """
    tensors, about, path = read_checkpoint(folder)
    source = str(path)
    if not isinstance(about.get("recipe"), dict):
        raise UserError(f"{source}: recipe: expected an object, got another form")
    before = Recipe.parse(about["recipe"], source)
    if read_categories(folder) != categories:
        raise UserError(
            f"{folder.labels}: the run was trained on other classes than those of the data"
        )
    finished = _check_whole(tensors, about, recipe.training, detector, source)
    changes = _check_recipe(recipe, before, finished, source)
    if about.get("data_digest") != data_digest:
        raise UserError(
            f"{source}: the run was trained on other images or annotations than those of the data"
        )
    states = restore_training_state(tensors, detector, optimizer, source)
    processes = sum(name.endswith(".cpu") for name in states)
    if processes != accelerator.num_processes:
        changes.append(f"processes: {accelerator.num_processes} here, {processes} there")
    _restore_generators(states, accelerator)
    if changes and accelerator.is_main_process:
        logger.warning("resuming with changes of settings: %s", "; ".join(changes))
    return finished


def _check_recipe(recipe: Recipe, before: Recipe, finished: int, source: str) -> list[str]:
    """Return the differences of two recipes. Raise UserError for one that is not free to change."""
    differences = recipe.differences(before)
    fixed = [line for line in differences if line.partition(":")[0] not in FREE_TO_CHANGE]
    if fixed:
        raise UserError(f"{source}: of another recipe: {'; '.join(fixed[:3])}")
    for iteration in range(finished):
        here = configured_rate(iteration, recipe.training)
        there = configured_rate(iteration, before.training)
        if here != there:
            raise UserError(
                f"{source}: training.steps: the learning rate of the finished iteration "
                f"{iteration} would be {here:g}, and it was {there:g}"
            )
    return differences


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
            f"{source}: finished: expected 0 to {config.iterations} iterations, "
            f"got {shown(finished)}"
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
    if "rng.0.cpu" not in tensors:
        raise UserError(f"{source}: expected the states of the random generators, got none")
    return finished


def _generator_states(accelerator: Accelerator) -> dict[str, Tensor]:
    """Return the states of torch's generators of this process, by the kind of their device."""
    states = {"cpu": torch.get_rng_state()}
    return states | (
        {"cuda": torch.cuda.get_rng_state()} if accelerator.device.type == "cuda" else {}
    )


def _restore_generators(states: Mapping[str, Tensor], accelerator: Accelerator) -> None:
    """Set torch's generators to the states of this process.

    Where a checkpoint has none for a process or device, the generator goes on from the seed. No
    draw of a training step comes from these generators: each image has its own.
    """
    rank = accelerator.process_index
    if f"{rank}.cpu" in states:
        torch.set_rng_state(states[f"{rank}.cpu"])
    if accelerator.device.type == "cuda" and f"{rank}.cuda" in states:
        torch.cuda.set_rng_state(states[f"{rank}.cuda"])
