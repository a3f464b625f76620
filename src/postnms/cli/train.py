"""What each verb of the command line does."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from postnms import recipes
from postnms.data.scenes.generator import ScenesConfig, write_scenes
from postnms.errors import UserError
from postnms.evaluation.metrics import FIGURES, show
from postnms.recipes import Recipe, get_recipe
from postnms.runs.folder import RunFolder

if TYPE_CHECKING:
    from postnms.data.splits import Splits
    from postnms.detectors import Detector


def demo(folder: Path, overrides: Sequence[str], out: Console) -> None:
    """Train the demo recipe from scratch, then draw what it finds in some val scenes."""
    from postnms.distributed.processes import this_process
    from postnms.inference.pictures import draw_split
    from postnms.runs.folder import read_data_folder, read_recipe

    recipe, run = get_recipe("demo", overrides), RunFolder(folder)
    if run.recipe.is_file() and (
        read_recipe(run).name != recipe.name or read_data_folder(run) is not None
    ):
        raise UserError(f"{folder}: holds a run that is no demo; name another --out")
    detector, splits = _train(recipe, run, None, False, out)
    if not this_process().is_main_process:
        return
    pictures = draw_split(detector.eval(), splits.val, recipe, folder / "pictures", most=12)
    out.print(
        f"{len(pictures)} pictures (truth, NMS, post-NMS) in {folder / 'pictures'}", soft_wrap=True
    )


def scenes(folder: Path, changes: Mapping[str, Any], seed: int, out: Console) -> None:
    """Write the scenes with the given changes to the default config."""
    given = {name: value for name, value in changes.items() if value is not None}
    config = ScenesConfig.parse(given, "scenes")
    with progress_bar("scenes", config.train + config.val) as done:
        counts = write_scenes(config, seed, folder, done)
    sizes = ", ".join(
        f"{split} {getattr(config, split)} images, {counts[split]} objects" for split in counts
    )
    out.print(f"{folder}: {sizes}", soft_wrap=True)


def list_recipes(out: Console) -> None:
    """Names and first lines."""
    table = Table("recipe", "what it is", box=None)
    for name in recipes.RECIPES:
        table.add_row(name, recipes.describe(name).splitlines()[0])
    out.print(table)


def show_recipe(name: str, overrides: Sequence[str], out: Console) -> None:
    """The config as JSON on stdout; what the recipe is goes to stderr, so that the JSON can be piped."""
    recipe = get_recipe(name, overrides)
    Console(stderr=True, highlight=False).print(recipes.describe(name))
    out.print_json(recipe.model_dump_json())


def train(
    name: str, folder: Path, data: Path | None, overrides: Sequence[str], resume: bool, out: Console
) -> None:
    """Train a named recipe into a run folder that holds no other run, or continue the one in it."""
    from postnms.runs.folder import read_data_folder

    run = RunFolder(folder)
    if (run.checkpoint.is_file() or run.weights.is_file()) and not resume:
        raise UserError(
            f"{folder}: holds a run already; pass --resume to continue it, or another --out"
        )
    if resume and not run.checkpoint.is_file():
        raise UserError(f"{folder}: has no checkpoint to resume from")
    if resume and data is None:
        data = read_data_folder(run)
    _train(get_recipe(name, overrides), run, data, resume, out)


def evaluate(folder: Path, data: Path | None, overrides: Sequence[str], out: Console) -> None:
    """Evaluate a run's detector on a val split (its own unless told otherwise) and write what it gives beside it.

    Without annotations, as in the test splits of COCO, there are results to hand in but no metrics.
    """
    from postnms.data.splits import open_val
    from postnms.distributed.processes import get_accelerator, this_process
    from postnms.inference.evaluate import evaluate_detector
    from postnms.runs.folder import (
        read_categories,
        read_data_folder,
        read_recipe,
        write_evaluation,
        write_results,
    )
    from postnms.runs.loading import load_detector

    run = RunFolder(folder)
    recipe = recipes.override(read_recipe(run), overrides)
    data = read_data_folder(run) if data is None else data
    split = open_val(recipe, data, read_categories(run))
    accelerator = get_accelerator()
    detector = load_detector(run, recipe)
    with progress_bar("images", len(split), shown=accelerator.is_main_process) as done:
        metrics, results = evaluate_detector(detector, split, recipe, accelerator, done)
    this_process().destroy_process_group()
    if not accelerator.is_main_process:
        return
    write_results(run, metrics, results)
    if metrics:
        write_evaluation(run, recipe, data)
        print_metrics(metrics, out)
    else:
        written = ", ".join(str(run.results(row)) for row in results)
        out.print(
            f"{split.dataset.source} has no annotations; results to hand in: {written}",
            soft_wrap=True,
        )


def predict(
    run: Path, inputs: Sequence[Path], folder: Path, both: bool, min_score: float, out: Console
) -> None:
    """Detect in images, draw, and write COCO results of every row."""
    from postnms.data.image_files import find_images
    from postnms.inference.image_files import predict_files

    with progress_bar("images", len(paths := find_images(list(inputs), leave_out=folder))) as done:
        counts, unread = predict_files(
            RunFolder(run), paths, folder, both=both, min_score=min_score, done=done
        )
    found = ", ".join(f"{row} {count} detections" for row, count in counts.items())
    out.print(
        f"{len(paths) - len(unread)} pictures and COCO results in {folder}: {found}", soft_wrap=True
    )
    if unread:
        raise UserError(f"{len(unread)} of {len(paths)} images left out: {'; '.join(unread[:3])}")


def print_metrics(metrics: Mapping[str, Mapping[str, float | None]], out: Console) -> None:
    """The rows as a table, and the gain with its interval."""
    table = Table(
        Column("row", min_width=len("post_nms"), overflow="fold"),
        *FIGURES,
        box=None,
        padding=(0, 1, 0, 0),
    )
    for row, figures in metrics.items():
        if row != "gain":
            table.add_row(row, *(show(figures[name]) for name in FIGURES))
    out.print(table)
    gain = metrics.get("gain")
    if gain and gain["AP"] is not None:
        interval = (
            ""
            if gain["low"] is None
            else f" (95 % interval {gain['low']:+.2f} to {gain['high']:+.2f})"
        )
        out.print(f"gain of post-NMS over NMS: {gain['AP']:+.2f} AP{interval}")


@contextmanager
def progress_bar(what: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; gives what is to be called with the number of finished steps out of ``total``."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(what, total=total)
        yield lambda finished: bar.advance(task, finished)


def _train(
    recipe: Recipe, run: RunFolder, data: Path | None, resume: bool, out: Console
) -> "tuple[Detector, Splits]":

    from postnms.data.splits import open_splits
    from postnms.distributed.processes import this_process
    from postnms.training.loop import train as run_training

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    splits = open_splits(recipe, data)
    detector, metrics = run_training(recipe, splits, run, resume=resume)
    if this_process().is_main_process:
        print_metrics(metrics, out)
    return detector, splits
