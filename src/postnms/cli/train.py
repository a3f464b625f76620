"""``postnms train``: train a recipe into a run folder, or continue the run in it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from postnms.cli.console import command_line, print_evaluation, progress_bar
from postnms.cli.options import Changes, Data
from postnms.errors import UserError

if TYPE_CHECKING:
    from postnms.data.splits import Splits
    from postnms.detectors import Detector
    from postnms.evaluation.results import Evaluation
    from postnms.recipes import Recipe
    from postnms.runs.folder import RunFolder

Freeze = Literal["none", "detector"]


def train(
    recipe: Annotated[str, typer.Argument(help="A named recipe; see 'postnms recipes list'.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
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
        typer.Option(help="'detector': train only the stage. 'none': train everything."),
    ] = None,
    changes: Changes = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run from its last checkpoint, with its own settings and --set.",
        ),
    ] = False,
) -> None:
    """Train a detector with its stage, evaluate both, and write the folder of the run."""
    from postnms.distributed.processes import end_processes, this_process
    from postnms.recipes import get_recipe, override, parse_changes
    from postnms.runs.folder import RunFolder, read_data_folder

    run = RunFolder(folder)
    if (run.checkpoint.is_file() or run.weights.is_file()) and not resume:
        raise UserError(
            f"{folder}: holds a run already; pass --resume to continue it, or another --out"
        )
    if resume and not (run.checkpoint.is_file() or run.older_checkpoint.is_file()):
        raise UserError(f"{folder}: has no checkpoint to resume from")
    if resume and data is None:
        data = read_data_folder(run)
    options: dict[str, Any] = {
        "training.start_from": start and str(start),
        "training.freeze": freeze,
    }
    given = {field: value for field, value in options.items() if value is not None}
    changed = given | parse_changes(changes or [])
    settings = override(_recipe_of(run, recipe), changed) if resume else get_recipe(recipe, changed)
    _, evaluation, _ = run_training(settings, run, data, resume=resume)
    is_main = this_process().is_main_process
    end_processes()
    if is_main:
        print_evaluation(evaluation)


def _recipe_of(run: "RunFolder", name: str) -> "Recipe":
    """Return the recipe of a run. Raise UserError if it is not the one that the user names."""
    from postnms.runs.folder import read_recipe

    recipe = read_recipe(run)
    if recipe.name != name:
        raise UserError(f"{run.root}: is a run of the recipe {recipe.name!r}, not of {name!r}")
    return recipe


def run_training(
    recipe: "Recipe", run: "RunFolder", data: Path | None, *, resume: bool
) -> "tuple[Detector, Evaluation, Splits]":
    """Open the data, look at every image file, and train."""
    from postnms.data.check import check_images
    from postnms.data.splits import open_splits
    from postnms.distributed.processes import this_process
    from postnms.training import train_splits

    splits = open_splits(recipe.data, data, recipe.detector.input_size, recipe.seed)
    datasets = [splits.train.dataset, splits.val.dataset]
    # The other processes wait for the look of the first one.
    with this_process().main_process_first():
        if data is not None and this_process().is_main_process:
            images = sum(len(dataset.records) for dataset in datasets)
            with progress_bar("checking images", images, patience=2) as done:
                check_images(datasets, recipe.data.max_pixels, done)
    detector, evaluation = train_splits(recipe, splits, run, resume=resume, command=command_line())
    return detector, evaluation, splits
