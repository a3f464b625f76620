"""The training loop: iterations, schedule, logs, checkpoints that resume exactly, evaluation every so often."""

from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from postnms.data.loader import Batch, DetectionData, TrainBatches, collate
from postnms.data.splits import Splits
from postnms.detectors import Detector
from postnms.distributed.processes import get_accelerator, this_process
from postnms.errors import UserError
from postnms.evaluation.results import Metrics
from postnms.inference.evaluate import evaluate_detector
from postnms.recipes import Recipe, TrainingConfig
from postnms.runs.checkpoints import model_state, save_tensors
from postnms.runs.folder import RunFolder, begin_run, write_results
from postnms.runs.loading import build_run_detector, start_from, without_weights
from postnms.training.optimizer import build_optimizer, set_learning_rate
from postnms.training.report import TrainingReport
from postnms.training.resume import resume_training, save_checkpoint
from postnms.training.step import step_generators, stop_unless_finite, training_step


def train(
    recipe: Recipe, splits: Splits, folder: RunFolder, *, resume: bool = False
) -> tuple[Detector, Metrics]:
    """Train, log, checkpoint and evaluate as the recipe says; returns the trained detector and its metrics.

    With ``resume`` the run continues from the folder's checkpoint exactly as if it had not stopped. Raises
    UserError if a loss is not finite (the last checkpoint is kept), or if the checkpoint is of another recipe, other
    classes or another number of processes. Without it, what the folder holds of an earlier run is removed.
    """
    config, categories = recipe.training, splits.train.dataset.categories
    accelerator = get_accelerator(
        mixed_precision="no", log_with="tensorboard", project_dir=folder.root
    )
    set_seed(recipe.seed, device_specific=True)
    has_own_weights = resume or config.start_from is not None
    detector = build_run_detector(
        without_weights(recipe) if has_own_weights else recipe, len(categories)
    ).train()
    if config.start_from is not None and not resume:
        start_from(detector, Path(config.start_from), categories)
    model, optimizer = accelerator.prepare(detector, build_optimizer(detector, config))
    check_batch_size(config, accelerator)
    start = (
        resume_training(recipe, folder, categories, detector, optimizer, accelerator)
        if resume
        else 0
    )
    if accelerator.is_main_process:
        begin_run(folder, recipe, categories, splits.folder, resume=resume)
    with TrainingReport(folder, config, accelerator, start) as report:
        for iteration, batch in enumerate(
            training_batches(recipe, splits.train, start, accelerator), start
        ):
            rate = set_learning_rate(optimizer, iteration, config)
            draws = step_generators(recipe.seed, iteration, len(batch.images), accelerator)
            losses = training_step(model, optimizer, batch, config, accelerator, draws)
            stop_unless_finite(losses, iteration, folder)
            report.step(iteration, losses, rate)
            finished = iteration + 1
            if finished % config.evaluate_every == 0 and finished < config.iterations:
                report.metrics(
                    finished, evaluate_detector(detector, splits.val, recipe, accelerator)[0]
                )
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


def check_batch_size(config: TrainingConfig, accelerator: Accelerator) -> None:
    """Raise UserError unless every process gets the same share of a batch."""
    world = accelerator.num_processes
    if config.batch_size % world:
        raise UserError(
            f"training.batch_size: expected a multiple of the {world} processes, got {config.batch_size}"
        )


def training_batches(
    recipe: Recipe, data: DetectionData, start: int, accelerator: Accelerator
) -> Iterator[Batch]:
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
