"""``postnms train``: train a recipe into a run folder, or continue the run in it."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from postnms.cli.completion import recipe_names
from postnms.cli.console import command_line, print_evaluation, progress_bar, say
from postnms.cli.data import say_found
from postnms.cli.options import Changes, Data
from postnms.cli.stopping import exit_stopped, stop_on_signals
from postnms.errors import UserError

if TYPE_CHECKING:
    from postnms.data.splits import Splits
    from postnms.detectors import Detector
    from postnms.evaluation.results import Evaluation
    from postnms.recipes import Recipe
    from postnms.runs.folder import RunFolder

Freeze = Literal["none", "detector", "detector_and_stage"]
RUNS = Path("runs")
"""Where new runs without ``--out`` are, in the present folder."""


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE]",
            help="A name from 'postnms recipes list', or a recipe file (.yaml, .yml, .json).",
            autocompletion=recipe_names,
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the run; default: a new one, runs/RECIPE."),
    ] = None,
    data: Data = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Initial weights: a run, its weights, or a state-dict file of a detector.",
        ),
    ] = None,
    freeze: Annotated[
        Freeze | None,
        typer.Option(
            help="'detector': train only the stage and the heads. 'detector_and_stage': train only "
            "the heads. 'none': train everything."
        ),
    ] = None,
    changes: Changes = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            help="Continue this run from its last checkpoint, with its own settings and --set.",
        ),
    ] = None,
) -> None:
    """Train a detector with its stage, evaluate both, and write the folder of the run.

    Ctrl-C ends the training with a checkpoint, from which --resume goes on.
    """
    from postnms.distributed.processes import end_processes, this_process
    from postnms.recipes import open_recipe, override, parse_changes
    from postnms.runs.folder import RunFolder, read_data_folder, read_recipe

    options: dict[str, Any] = {
        "training.start_from": start and str(start),
        "training.freeze": freeze,
    }
    given = {field: value for field, value in options.items() if value is not None}
    changed = given | parse_changes(changes or [])
    if resume is not None:
        run = _stopped_run(resume, recipe, folder)
        settings = override(read_recipe(run), changed)
        data = read_data_folder(run) if data is None else data
    elif recipe is None:
        raise UserError("train: expected RECIPE for a new run, or --resume RUN for a stopped one")
    else:
        settings = open_recipe(recipe, changed)
        run = RunFolder(_new_folder(settings.name) if folder is None else folder)
        if run.has_weights:
            raise UserError(
                f"{folder}: holds a run already; continue it with --resume {folder}, or name "
                f"another --out"
            )
    _, evaluation, _ = run_training(settings, run, data, resume=resume is not None)
    is_main = this_process().is_main_process
    end_processes()
    if is_main:
        print_evaluation(evaluation)


def _new_folder(name: str) -> Path:
    """Return a folder for a run that is not there yet, and say where it is."""
    from postnms.distributed.processes import this_process

    if this_process().num_processes > 1:
        raise UserError("train: expected --out RUN, as several processes train together")
    free = next(
        path
        for number in itertools.count(1)
        if not (path := RUNS / (name if number == 1 else f"{name}_{number}")).exists()
    )
    say(f"run folder: {free}")
    return free


def check_resume(words: Sequence[str]) -> None:
    """Raise UserError if the words of a command line have ``--resume`` without a run behind it."""
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == "--resume" and (following is None or following.startswith("-")):
            raise UserError("--resume: expected the folder of a run: postnms train --resume RUN")


def _stopped_run(root: Path, recipe: str | None, out: Path | None) -> "RunFolder":
    """Return the folder of a run to go on with, which needs neither a recipe nor ``--out``."""
    from postnms.runs.folder import RunFolder

    if recipe is not None or out is not None:
        word = "RECIPE" if recipe is not None else "--out"
        raise UserError(
            f"--resume: {root} has its own recipe and folder; leave out {word}: "
            f"postnms train --resume {root}"
        )
    run = RunFolder(root)
    if not run.has_checkpoint:
        raise UserError(f"{root}: has no checkpoint to resume from")
    return run


def run_training(
    recipe: "Recipe", run: "RunFolder", data: Path | None, *, resume: bool
) -> "tuple[Detector, Evaluation, Splits]":
    """Open the data, look at every image file, and train."""
    from postnms.data.check import check_images
    from postnms.data.splits import open_splits
    from postnms.distributed.processes import end_processes, this_process
    from postnms.training import TrainingStopped, train_splits

    splits = open_splits(recipe.data, data, recipe.detector.input_size, recipe.seed)
    say_found(splits.found)
    datasets = [splits.train.dataset, splits.val.dataset]
    # The other processes wait for the look of the first one.
    with this_process().main_process_first():
        if data is not None and this_process().is_main_process:
            images = sum(len(dataset.records) for dataset in datasets)
            with progress_bar("checking images", images, patience=2) as done:
                check_images(datasets, recipe.data.max_pixels, done)
    process = this_process()
    with stop_on_signals(several=process.num_processes > 1) as stop:
        try:
            detector, evaluation = train_splits(
                recipe, splits, run, resume=resume, command=command_line(), stop=stop
            )
        except TrainingStopped as stopped:
            is_main = process.is_main_process
            end_processes()
            exit_stopped(stopped, run.root, stop.number, is_main=is_main)
    return detector, evaluation, splits
