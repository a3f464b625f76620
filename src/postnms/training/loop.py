"""The training loop: steps, logs, checkpoints and evaluations.

A run that was interrupted continues exactly as if it had not stopped.
"""

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed

from postnms.data.digest import annotations_hash, digest_of
from postnms.data.loader import Batch, DetectionData, TrainBatches, collate
from postnms.data.splits import Splits
from postnms.data.workers import new_loader, plain_errors
from postnms.detectors import Detector
from postnms.distributed.processes import get_accelerator
from postnms.errors import UserError
from postnms.evaluation.columns import Results
from postnms.evaluation.results import Evaluation
from postnms.files.tensor_files import save_tensors
from postnms.inference.evaluate import evaluate_detector
from postnms.recipes import Recipe, TrainingConfig
from postnms.runs.checkpoints import model_state, read_checkpoint
from postnms.runs.folder import RunFolder, begin_run, hold_run, remove_end, write_results
from postnms.runs.loading import build_run_detector, start_from, without_weights
from postnms.training.best import BestWeights, load_best
from postnms.training.optimizer import set_learning_rate
from postnms.training.phases import begin, finishing
from postnms.training.precision import precision_on, warn_if_slow
from postnms.training.report import TrainingReport
from postnms.training.resume import is_finishing, resume_training, save_checkpoint
from postnms.training.schedule import Schedule, schedule_of
from postnms.training.state import Trained
from postnms.training.step import step_generators, stop_unless_finite, training_step
from postnms.training.stopping import Stop, TrainingStopped, is_stopped, never
from postnms.training.trackers import check_trackers

logger = logging.getLogger(__name__)


def train_splits(
    recipe: Recipe,
    splits: Splits,
    folder: RunFolder,
    *,
    resume: bool = False,
    command: str | None = None,
    stop: Stop = never,
) -> tuple[Detector, Evaluation]:
    """Train a detector as a recipe says, and evaluate it on the val split.

    Args:
        recipe: all settings of the run.
        splits: the data, opened as the recipe says.
        folder: where the run is written to: a new or an empty folder, or that of an earlier run,
            whose files are removed. No other process can write to it meanwhile.
        resume: continue from the folder's checkpoint exactly as if the run had not stopped. The
            recipe may differ in fields on which no finished iteration depends.
        command: the command line that started the run, for its provenance.
        stop: asked after every iteration whether the training is to stop there. Several processes
            stop at the same iteration, at the next line of the log.

    Returns:
        The trained detector and its evaluation.

    Raises:
        UserError: the folder holds other files, or another process holds it. A loss is not finite;
            the last checkpoint is kept. With ``resume`` also if the checkpoint is damaged or not
            whole, or if it belongs to another recipe, other classes or other data.
        TrainingStopped: ``stop`` returned True. The checkpoint of that iteration is written.
    """
    accelerator = get_accelerator(mixed_precision="no")
    with hold_run(folder, command) if accelerator.is_main_process else nullcontext():
        return _train(recipe, splits, folder, accelerator, resume, command, stop)


def _train(
    recipe: Recipe,
    splits: Splits,
    folder: RunFolder,
    accelerator: Accelerator,
    resume: bool,
    command: str | None,
    stop: Stop,
) -> tuple[Detector, Evaluation]:
    """Train in a folder that the main process holds, see :func:`train_splits`."""
    config = recipe.training
    check_trackers(config.trackers)
    schedule = schedule_of(config, batches_per_epoch(splits.train, config.batch_size))
    digest = digest_of(splits.train.dataset, splits.val.dataset)
    trained, start = _set_up(recipe, splits, schedule, digest, folder, accelerator, resume=resume)
    if accelerator.is_main_process:
        precision = precision_on(accelerator.device, config.precision)
        warn_if_slow(accelerator.device, precision)
        begin_run(
            folder,
            recipe,
            splits.train.dataset.categories,
            splits.folder,
            resume=resume,
            command=command,
            precision=precision,
            val_hash=annotations_hash(splits.val.dataset.truth),
        )
        if start < schedule.iterations:
            remove_end(folder)
    best = BestWeights(folder) if accelerator.is_main_process else None
    run = _Run(recipe, splits, folder, schedule, digest, accelerator, best)
    with TrainingReport(folder, config, schedule, accelerator, start) as report:
        trained = _take_steps(run, trained, start, report, stop)
        detector = trained.result
        evaluation, results = _end(run, detector, report)
    if accelerator.is_main_process:
        folder.evaluation.unlink(missing_ok=True)
        write_results(folder, evaluation, results)
    return detector, evaluation


@dataclass(frozen=True)
class _Run:
    """What stays the same through all iterations of a run."""

    recipe: Recipe
    splits: Splits
    folder: RunFolder
    schedule: Schedule
    digest: str
    """The digest of the data, which a checkpoint holds."""
    accelerator: Accelerator
    best: BestWeights | None
    """None: another process keeps the best weights."""

    def evaluate(
        self, detector: Detector, bootstrap: int | None = None
    ) -> tuple[Evaluation, Results]:
        """Evaluate on the val split. ``bootstrap`` None: as many resamples as the recipe says."""
        settings = self.recipe.evaluation
        evaluation, results = evaluate_detector(
            detector,
            self.splits.val,
            batch_size=settings.batch_size,
            bootstrap=settings.bootstrap if bootstrap is None else bootstrap,
            seed=self.recipe.seed,
            accelerator=self.accelerator,
        )
        assert evaluation is not None  # open_splits refuses a val split without annotations
        return evaluation, results

    def measure(
        self,
        detector: Detector,
        finished: int,
        report: TrainingReport,
        bootstrap: int | None = None,
    ) -> tuple[Evaluation, Results]:
        """Evaluate after ``finished`` iterations, report it, and keep the weights if best."""
        evaluation, results = self.evaluate(detector, bootstrap)
        report.metrics(finished, evaluation)
        if self.best is not None:
            self.best.offer(detector, evaluation, finished)
        return evaluation, results

    def save_weights(self, detector: Detector) -> None:
        """Write the final weights, in the main process alone."""
        if self.accelerator.is_main_process:
            save_tensors(self.folder.weights, model_state(detector), {"recipe": self.recipe.name})


def _take_steps(
    run: _Run, trained: Trained, start: int, report: TrainingReport, stop: Stop
) -> Trained:
    """Train from iteration ``start`` to the end of the run. Return what was trained last."""
    config, schedule, accelerator = run.recipe.training, run.schedule, run.accelerator
    batches = _batches(run.recipe, run.splits.train, schedule, start, accelerator)
    for iteration, batch in enumerate(batches, start):
        if iteration == schedule.joint:
            trained = finishing(trained, run.recipe, run.folder, accelerator)
        rate = schedule.learning_rate(iteration)
        set_learning_rate(trained.optimizer, rate)
        draws = step_generators(run.recipe.seed, iteration, len(batch.images), accelerator)
        losses = training_step(trained.model, trained.optimizer, batch, config, accelerator, draws)
        stop_unless_finite(losses, iteration, run.folder)
        trained.update_average()
        report.step(iteration, losses, rate)
        finished = iteration + 1
        if schedule.is_evaluated(finished):
            # The interval of the gain takes long, so only the run's last figures have one.
            run.measure(trained.result, finished, report, bootstrap=0)
        stopped = is_stopped(stop, finished, schedule, accelerator)
        if stopped or schedule.is_saved(finished):
            save_checkpoint(
                run.folder, run.recipe, run.digest, schedule, finished, trained, accelerator
            )
        if stopped:
            raise TrainingStopped(finished, schedule.iterations)
    trained.detector.memory = None
    return trained


def _end(run: _Run, detector: Detector, report: TrainingReport) -> tuple[Evaluation, Results]:
    """Write the final weights of a run, the last or the best ones, and return their figures."""
    last = run.schedule.iterations
    keeps_last = run.recipe.training.final_weights == "last"
    if keeps_last:
        run.save_weights(detector)
    evaluation, results = run.measure(detector, last, report)
    if not keeps_last:
        run.accelerator.wait_for_everyone()  # Process 0 has written the best weights by then.
        if load_best(run.folder, detector, last):
            evaluation, results = run.evaluate(detector)
        run.save_weights(detector)
    return evaluation, results


def _set_up(
    recipe: Recipe,
    splits: Splits,
    schedule: Schedule,
    digest: str,
    folder: RunFolder,
    accelerator: Accelerator,
    *,
    resume: bool,
) -> tuple[Trained, int]:
    """Return what is trained, and the first iteration."""
    config = recipe.training
    categories = splits.train.dataset.categories
    set_seed(recipe.seed, device_specific=True)
    has_weights = resume or config.start_from is not None
    described = without_weights(recipe, len(categories)) if has_weights else recipe
    detector = build_run_detector(described, len(categories)).train()
    if config.start_from is not None and not resume:
        where = Path(config.start_from)
        start_from(detector, where, categories, exact=config.exact_weights)
    check_batch_size(config, accelerator)
    trained = begin(detector, recipe, splits.train.augmentation, folder, accelerator)
    if not resume:
        return trained, 0
    checkpoint = read_checkpoint(folder)
    if is_finishing(checkpoint, schedule):
        trained = finishing(trained, recipe, folder, accelerator)
    start = resume_training(
        checkpoint, recipe, digest, schedule, folder, categories, trained, accelerator
    )
    return trained, start


def check_batch_size(config: TrainingConfig, accelerator: Accelerator) -> None:
    """Raise UserError unless every process gets the same share of a batch, in equal parts."""
    world = accelerator.num_processes
    if config.batch_size % world:
        raise UserError(
            f"training.batch_size: expected a multiple of the {world} processes, "
            f"got {config.batch_size}"
        )
    share = config.batch_size // world
    if share % config.accumulation:
        raise UserError(
            f"training.accumulation: expected a divisor of the {share} images of a process, "
            f"got {config.accumulation}"
        )


def batches_per_epoch(data: DetectionData, batch_size: int) -> int:
    """Return the number of batches in which every image comes at least once."""
    return TrainBatches(data.aspect_groups, batch_size, seed=0).per_epoch


def training_batches(
    recipe: Recipe, data: DetectionData, iterations: int, start: int, accelerator: Accelerator
) -> Iterator[Batch]:
    """Yield the batches of iterations ``start`` to ``iterations - 1``.

    A batch depends on its iteration alone, not on whether the run was interrupted before it.
    """
    config = recipe.training
    batches = TrainBatches(
        data.aspect_groups,
        config.batch_size,
        recipe.seed,
        start,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    loader = new_loader(
        data,
        recipe.data.workers,
        batch_sampler=batches,
        collate_fn=collate,
        pin_memory=accelerator.device.type == "cuda",
    )
    with plain_errors():
        for _, batch in zip(range(start, iterations), loader, strict=False):
            yield batch


def _batches(
    recipe: Recipe, data: DetectionData, schedule: Schedule, start: int, accelerator: Accelerator
) -> Iterator[Batch]:
    """Yield the batches of a run from iteration ``start`` on.

    In the finishing phase images are only turned, so that the same ones come again.
    """
    if start < schedule.joint:
        yield from training_batches(recipe, data, schedule.joint, start, accelerator)
    first = max(start, schedule.joint)
    if first < schedule.iterations:
        turned = data.only_turned()
        yield from training_batches(recipe, turned, schedule.iterations, first, accelerator)
