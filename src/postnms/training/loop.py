"""The training loop: iterations, schedule, logs, checkpoints that resume exactly, evaluation every so often."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.data import DataLoader

from postnms.data.formats.coco import Category
from postnms.data.loader import Batch, DetectionData, TrainBatches, collate, seeded_generator
from postnms.data.splits import Splits
from postnms.detectors import Detector
from postnms.distributed.processes import get_accelerator, this_process
from postnms.errors import UserError
from postnms.inference.evaluate import Metrics, evaluate_detector, write_results
from postnms.recipes import Recipe, TrainingConfig
from postnms.runs.checkpoints import load_tensors, model_state, restore_training_state, save_tensors, training_state
from postnms.runs.loading import RunFolder, begin_run, build_run_detector, read_categories, start_from, without_weights
from postnms.structures import move
from postnms.training.report import TrainingReport
from postnms.training.schedule import learning_rate


def train(recipe: Recipe, splits: Splits, folder: RunFolder, *, resume: bool = False) -> tuple[Detector, Metrics]:
    """Train, log, checkpoint and evaluate as the recipe says; returns the trained detector and its metrics.

    With ``resume`` the run continues from the folder's checkpoint exactly as if it had not stopped. Raises
    UserError if a loss is not finite (the last checkpoint is kept), or if the checkpoint is of another recipe, other
    classes or another number of processes. Without it, what the folder holds of an earlier run is removed.
    """
    config, categories = recipe.training, splits.train.dataset.categories
    accelerator = get_accelerator(mixed_precision="no", log_with="tensorboard", project_dir=folder.root)
    set_seed(recipe.seed, device_specific=True)
    has_own_weights = resume or config.start_from is not None
    detector = build_run_detector(without_weights(recipe) if has_own_weights else recipe, len(categories)).train()
    if config.start_from is not None and not resume:
        start_from(detector, Path(config.start_from), categories)
    model, optimizer = accelerator.prepare(detector, build_optimizer(detector, config))
    check_batch_size(config, accelerator)
    start = resume_training(recipe, folder, categories, detector, optimizer, accelerator) if resume else 0
    if accelerator.is_main_process:
        begin_run(folder, recipe, categories, splits.folder, resume=resume)
    with TrainingReport(folder, config, accelerator, start) as report:
        for iteration, batch in enumerate(training_batches(recipe, splits.train, start, accelerator), start):
            rate = set_learning_rate(optimizer, iteration, config)
            draws = step_generators(recipe.seed, iteration, len(batch.images), accelerator)
            losses = training_step(model, optimizer, batch, config, accelerator, draws)
            stop_unless_finite(losses, iteration, folder)
            report.step(iteration, losses, rate)
            finished = iteration + 1
            if finished % config.evaluate_every == 0 and finished < config.iterations:
                report.metrics(finished, evaluate_detector(detector, splits.val, recipe, accelerator)[0])
            if finished % config.checkpoint_every == 0 or finished == config.iterations:
                save_checkpoint(folder, recipe, finished, detector, optimizer, accelerator)
        if accelerator.is_main_process:
            save_tensors(folder.weights, model_state(detector), {"recipe": recipe.name})
        metrics, results = evaluate_detector(detector, splits.val, recipe, accelerator)
        report.metrics(config.iterations, metrics)
    if accelerator.is_main_process:
        folder.evaluation.unlink(missing_ok=True)
        write_results(folder, metrics, results)
    this_process().destroy_process_group()
    return detector, metrics


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
    norm = accelerator.clip_grad_norm_(model.parameters(), math.inf if config.clip_norm is None else config.clip_norm)
    if norm is not None and not bool(torch.isfinite(norm)):
        return values | {"gradient_norm": torch.as_tensor(norm)}
    if bool(torch.isfinite(total)):  # else the weights stay as they are for whoever looks into it
        optimizer.step()
    return values


def step_generators(seed: int, iteration: int, images: int, accelerator: Accelerator) -> list[torch.Generator]:
    """Of each image of this process, where its draws come from: a matter of seed, iteration and place in the batch.

    So neither the number of processes nor an interruption changes them.
    """
    places = range(accelerator.process_index, images * accelerator.num_processes, accelerator.num_processes)
    return [seeded_generator(seed, iteration, place, device=accelerator.device) for place in places]


def stop_unless_finite(losses: Mapping[str, Tensor], iteration: int, folder: RunFolder) -> None:
    """Raise UserError, with every loss term named, if one is NaN or infinite."""
    values = {name: float(loss) for name, loss in losses.items()}
    if all(math.isfinite(value) for value in values.values()):
        return
    terms = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    kept = f"the last checkpoint is kept: {folder.checkpoint}" if folder.checkpoint.is_file() else "no checkpoint yet"
    raise UserError(f"iteration {iteration}: a loss is not finite ({terms}); {kept}; try a lower training.lr")


def build_optimizer(detector: Detector, config: TrainingConfig) -> Optimizer:
    """SGD with momentum or AdamW over the trained parameters; the stage is a group with a rate of its own."""
    trained = [(name.startswith("stage."), p) for name, p in detector.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for of_stage, p in trained if not of_stage], "factor": 1.0},
        {"params": [p for of_stage, p in trained if of_stage], "factor": config.stage_lr_factor},
    ]
    if config.optimizer == "adamw":
        return AdamW(groups, config.lr, weight_decay=config.weight_decay)
    return SGD(groups, config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def set_learning_rate(optimizer: Optimizer, iteration: int, config: TrainingConfig) -> float:
    """Set the rates of an iteration; returns the detector's."""
    rate = learning_rate(
        iteration, config.lr, config.warmup_iterations, config.warmup_factor, config.steps, config.gamma
    )
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    return rate


def check_batch_size(config: TrainingConfig, accelerator: Accelerator) -> None:
    """Raise UserError unless every process gets the same share of a batch."""
    world = accelerator.num_processes
    if config.batch_size % world:
        raise UserError(f"training.batch_size: expected a multiple of the {world} processes, got {config.batch_size}")


def training_batches(recipe: Recipe, data: DetectionData, start: int, accelerator: Accelerator) -> Iterator[Batch]:
    """Batches ``start`` to the last; batch i is the same whether or not the run was interrupted before it."""
    config = recipe.training
    batches = TrainBatches(
        data.aspect_groups,
        config.batch_size,
        recipe.seed,
        start,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    loader = DataLoader(
        data,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=recipe.data.workers,
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator(),  # else the loader would draw from the generator that the samplers use
    )
    try:
        for _, batch in zip(range(start, config.iterations), loader, strict=False):
            yield batch
    except UserError as error:  # a loader's worker puts its traceback before the message
        raise UserError(str(error).rpartition("UserError: ")[2].strip()) from error


def save_checkpoint(
    folder: RunFolder, recipe: Recipe, finished: int, detector: Detector, optimizer: Optimizer, accelerator: Accelerator
) -> None:
    """Write the state after ``finished`` iterations; process 0 writes for all."""
    own = {f"{accelerator.process_index}.{name}": state for name, state in _generator_states(accelerator).items()}
    states = {name: state for part in gather_object([own]) for name, state in part.items()}
    if accelerator.is_main_process:
        about = {"finished": finished, "recipe": recipe.model_dump(mode="json"), "time": time.time()}
        save_tensors(folder.checkpoint, training_state(detector, optimizer, states), about)


def resume_training(
    recipe: Recipe,
    folder: RunFolder,
    categories: tuple[Category, ...],
    detector: Detector,
    optimizer: Optimizer,
    accelerator: Accelerator,
) -> int:
    """Restore the folder's checkpoint into everything that changes while training; returns the next iteration."""
    tensors, about = load_tensors(folder.checkpoint)
    differences = recipe.differences(Recipe.parse(about["recipe"], str(folder.checkpoint)))
    if differences:
        raise UserError(f"{folder.checkpoint}: of another recipe: {'; '.join(differences[:3])}")
    if read_categories(folder) != categories:
        raise UserError(f"{folder.labels}: the run was trained on other classes than those of the data")
    states = restore_training_state(tensors, detector, optimizer, str(folder.checkpoint))
    here = [f"{rank}.{kind}" for rank in range(accelerator.num_processes) for kind in _generator_states(accelerator)]
    if sorted(states) != sorted(here):
        raise UserError(
            f"{folder.checkpoint}: expected the random states {', '.join(here)} of these processes and devices, "
            f"got {', '.join(states)}"
        )
    torch.set_rng_state(states[f"{accelerator.process_index}.cpu"])
    if accelerator.device.type == "cuda":
        torch.cuda.set_rng_state(states[f"{accelerator.process_index}.cuda"])
    return int(about["finished"])


def _generator_states(accelerator: Accelerator) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if accelerator.device.type == "cuda" else {})
