"""What each verb of the command line does."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from postnms import recipes
from postnms.data.scenes import ScenesConfig, write_scenes
from postnms.errors import UserError
from postnms.evaluation import FIGURES
from postnms.recipes import Recipe, get_recipe
from postnms.runs import RunFolder

if TYPE_CHECKING:
    from postnms.detectors import Detector
    from postnms.splits import Splits


def demo(folder: Path, overrides: Sequence[str], out: Console) -> None:
    """Train the demo recipe from scratch, then draw what it finds in some val scenes."""
    from postnms.pictures import draw_split

    run = RunFolder(folder)
    run.checkpoint.unlink(missing_ok=True)
    recipe = get_recipe("demo", overrides)
    detector, splits = _train(recipe, run, None, False, out)
    pictures = draw_split(detector.eval(), splits.val, recipe, folder / "pictures", most=12)
    out.print(f"{len(pictures)} pictures (truth, NMS, post-NMS) in {folder / 'pictures'}")


def scenes(folder: Path, changes: Mapping[str, Any], seed: int, out: Console) -> None:
    """Write the scenes with the given changes to the default config."""
    given = {name: value for name, value in changes.items() if value is not None}
    config = ScenesConfig.parse(given, "scenes")
    with progress_bar("scenes", config.train + config.val) as done:
        counts = write_scenes(config, seed, folder, done)
    sizes = ", ".join(f"{split} {getattr(config, split)} images, {counts[split]} objects" for split in counts)
    out.print(f"{folder}: {sizes}")


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


def train(name: str, folder: Path, data: Path | None, overrides: Sequence[str], resume: bool, out: Console) -> None:
    """Train a named recipe into a run folder that holds no other run, or continue the one in it."""
    run = RunFolder(folder)
    if run.checkpoint.is_file() and not resume:
        raise UserError(f"{folder}: holds a run already; pass --resume to continue it, or another --out")
    if resume and not run.checkpoint.is_file():
        raise UserError(f"{folder}: has no checkpoint to resume from")
    _train(get_recipe(name, overrides), run, data, resume, out)


def evaluate(folder: Path, data: Path | None, overrides: Sequence[str], out: Console) -> None:
    """Evaluate a run's detector on a val split and write metrics and results into its folder."""
    from accelerate import Accelerator

    from postnms.inference import evaluate_detector, write_results
    from postnms.runs import load_detector, read_categories, read_recipe
    from postnms.splits import open_val

    run = RunFolder(folder)
    recipe = recipes.override(read_recipe(run), overrides)
    split = open_val(recipe, data, read_categories(run))
    accelerator = Accelerator()
    detector = load_detector(run, recipe)
    with progress_bar("images", len(split)) as done:
        metrics, results = evaluate_detector(detector, split, recipe, accelerator, done)
    if accelerator.is_main_process:
        write_results(run, metrics, results)
        print_metrics(metrics, out)


def predict(run: Path, inputs: Sequence[Path], folder: Path, both: bool, min_score: float, out: Console) -> None:
    """Detect in images, draw, and write COCO results of every row."""
    from postnms.data.images import find_images
    from postnms.pictures import predict_files

    with progress_bar("images", len(paths := find_images(list(inputs)))) as done:
        counts = predict_files(RunFolder(run), paths, folder, both=both, min_score=min_score, done=done)
    found = ", ".join(f"{row} {count} detections" for row, count in counts.items())
    out.print(f"{len(paths)} pictures and COCO results in {folder}: {found}")


def print_metrics(metrics: Mapping[str, Mapping[str, float | None]], out: Console) -> None:
    """The rows as a table, and the gain with its interval."""
    table = Table("row", *FIGURES, box=None)
    for row, figures in metrics.items():
        if row != "gain":
            table.add_row(row, *("-" if (value := figures[name]) is None else f"{value:.1f}" for name in FIGURES))
    out.print(table)
    gain = metrics.get("gain")
    if gain and gain["AP"] is not None:
        interval = "" if gain["low"] is None else f" (95 % interval {gain['low']:+.2f} to {gain['high']:+.2f})"
        out.print(f"gain of post-NMS over NMS: {gain['AP']:+.2f} AP{interval}")


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; gives what is to be called with the number of finished steps out of ``total``."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda finished: bar.advance(task, finished)


def _train(recipe: Recipe, run: RunFolder, data: Path | None, resume: bool, out: Console) -> "tuple[Detector, Splits]":
    from postnms.inference import evaluate_detector, write_results
    from postnms.runs import write_description
    from postnms.splits import open_splits
    from postnms.training import train as run_training

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    splits = open_splits(recipe, data)
    if not resume:
        write_description(run, recipe, splits.train.dataset.categories, "built-in" if data is None else data.name)
    detector, accelerator = run_training(recipe, splits, run, resume=resume)
    metrics, results = evaluate_detector(detector, splits.val, recipe, accelerator)
    if accelerator.is_main_process:
        write_results(run, metrics, results)
        print_metrics(metrics, out)
    return detector, splits
