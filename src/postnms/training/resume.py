"""Checkpoints of a run, and how a run continues from one."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from postnms.data.dataset import Category
from postnms.errors import UserError, shown
from postnms.files.tensor_files import save_tensors
from postnms.recipes import Recipe, TrainingConfig
from postnms.runs.checkpoints import (
    Checkpoint,
    own_state,
    restore_training_state,
    training_state,
)
from postnms.runs.folder import RunFolder, read_categories
from postnms.runs.loading import refuse_classes
from postnms.training.schedule import Schedule, schedule_of
from postnms.training.state import Trained

logger = logging.getLogger(__name__)

FREE_TO_CHANGE = (
    "detector.clustering",
    "data.workers",
    "data.cache",
    "training.feature_memory",
    "training.feature_memory_gib",
    "training.iterations",
    "training.finish_iterations",
    "training.finish_lr",
    "training.steps",
    "training.log_every",
    "training.checkpoint_every",
    "training.evaluate_every",
    "training.final_weights",
    "training.precision",
    "training.trackers",
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
    schedule: Schedule,
    finished: int,
    trained: Trained,
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
            "iterations": schedule.iterations,
            "final_weights": recipe.training.final_weights,
            "recipe": recipe.model_dump(mode="json"),
            "data_digest": data_digest,
            "time": time.time(),
        }
        tensors = training_state(trained.detector, trained.optimizer, states)
        tensors |= {} if trained.average is None else trained.average.state()
        save_tensors(folder.checkpoint, tensors, about, older=folder.older_checkpoint)


def resume_training(
    checkpoint: Checkpoint,
    recipe: Recipe,
    data_digest: str,
    schedule: Schedule,
    folder: RunFolder,
    categories: tuple[Category, ...],
    trained: Trained,
    accelerator: Accelerator,
) -> int:
    """Restore the checkpoint of a run into what is trained and into the random generators.

    The recipe and the number of processes may differ from those of the checkpoint as far as no
    finished iteration depends on it. A line in the log says what differs.

    Args:
        checkpoint: what :func:`read_checkpoint` gives for the folder.
        recipe: the recipe to go on with. :data:`FREE_TO_CHANGE` may differ from the run's recipe.
        data_digest: tells the data from others. They must be those of the run.
        schedule: the schedule of ``recipe`` on these data.
        folder: the folder of the run.
        categories: the classes of the data, in the order of the labels.
        trained: detector, optimizer and average, which are changed in place.
        accelerator: the processes that train together.

    Returns:
        The iteration to continue with, counted from 0.

    Raises:
        UserError: the checkpoint is not whole, or it belongs to another recipe, to other classes or
            to other data.
    """
    tensors, about, path = checkpoint
    source = str(path)
    if not isinstance(about.get("recipe"), dict):
        raise UserError(f"{source}: recipe: expected an object, got another form")
    before = Recipe.parse(about["recipe"], source)
    refuse_classes(folder, _texts(read_categories(folder)), _texts(categories))
    finished = _check_whole(tensors, about, recipe.training, schedule, trained, source)
    changes = _check_recipe(recipe, before, source)
    if about.get("data_digest") != data_digest:
        raise UserError(
            f"{source}: the run was trained on other images or annotations than those of the data"
        )
    # The same data have the same length of an epoch.
    earlier = schedule_of(before.training, schedule.per_epoch)
    if finished > min(schedule.joint, earlier.joint) and schedule.joint != earlier.joint:
        raise UserError(
            f"{source}: training.iterations: expected {before.training.iterations}, as the "
            f"finishing phase has begun; got {recipe.training.iterations}"
        )
    _check_rates(schedule, earlier, finished, source)
    states = restore_training_state(tensors, trained.detector, trained.optimizer, source)
    if trained.average is not None:
        trained.average.restore(tensors)
    processes = sum(name.endswith(".cpu") for name in states)
    if processes != accelerator.num_processes:
        changes.append(f"processes: {accelerator.num_processes} here, {processes} there")
    _restore_generators(states, accelerator)
    if changes and accelerator.is_main_process:
        logger.warning("resuming with changes of settings: %s", "; ".join(changes))
    return finished


def _texts(categories: Sequence[Category]) -> list[str]:
    """Return id and name of each class as a text."""
    return [f"{category.id} {category.name}" for category in categories]


def is_finishing(checkpoint: Checkpoint, schedule: Schedule) -> bool:
    """Return whether a checkpoint is one of the finishing phase, which has another optimizer."""
    finished = checkpoint[1].get("finished")
    return type(finished) is int and finished > schedule.joint


def _check_recipe(recipe: Recipe, before: Recipe, source: str) -> list[str]:
    """Return the differences of two recipes. Raise UserError for one that is not free to change."""
    differences = recipe.differences(before)
    fixed = [line for line in differences if line.partition(":")[0] not in FREE_TO_CHANGE]
    if fixed:
        raise UserError(f"{source}: of another recipe: {'; '.join(fixed[:3])}")
    return differences


def _check_rates(schedule: Schedule, before: Schedule, finished: int, source: str) -> None:
    """Raise UserError if a finished iteration would have had another learning rate."""
    for iteration in range(finished):
        here, there = schedule.learning_rate(iteration), before.learning_rate(iteration)
        if here != there:
            changed = "iterations" if schedule.kind == "cosine" else "steps"
            if iteration >= schedule.joint:
                changed = "finish_iterations or training.finish_lr"
            raise UserError(
                f"{source}: training.{changed}: the learning rate of the finished iteration "
                f"{iteration} would be {here:g}, and it was {there:g}"
            )


def _check_whole(
    tensors: Mapping[str, Tensor],
    about: Mapping[str, Any],
    config: TrainingConfig,
    schedule: Schedule,
    trained: Trained,
    source: str,
) -> int:
    """Return the number of finished iterations. Raise UserError if a part of the state is missing.

    torch would fill up or cast a state that is not whole, and the run would go on to other results.
    """
    finished = about.get("finished")
    if type(finished) is not int or not 0 <= finished <= schedule.iterations:
        raise UserError(
            f"{source}: finished: expected 0 to {schedule.iterations} iterations, "
            f"got {shown(finished)}"
        )
    weights = own_state(tensors)
    for name, value in trained.detector.state_dict().items():
        if name in weights and weights[name].dtype != value.dtype:
            raise UserError(
                f"{source}: model.{name}: expected {value.dtype}, got {weights[name].dtype}"
            )
    has_state = config.optimizer == "adamw" or config.momentum > 0
    if finished and has_state and not any(name.startswith("optimizer.") for name in tensors):
        raise UserError(f"{source}: expected the state of the optimizer, got none")
    if trained.average is not None and trained.average.state().keys() - tensors.keys():
        raise UserError(f"{source}: expected the average of the weights, got none or a part of it")
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
