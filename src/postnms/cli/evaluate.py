"""``postnms eval``: measure the detector of a run."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from postnms.cli.console import (
    command_line,
    print_classes,
    print_evaluation,
    progress_bar,
    say,
)
from postnms.cli.data import open_named_split
from postnms.cli.limits import limit_setting, say_cut, say_uncounted
from postnms.cli.options import Data, Run, RunChanges, Split
from postnms.errors import UserError

if TYPE_CHECKING:
    from postnms.data.dataset import Truth
    from postnms.evaluation.columns import Results
    from postnms.evaluation.results import Evaluation
    from postnms.recipes import Recipe
    from postnms.runs.folder import RunFolder


def evaluate(
    folder: Run,
    data: Data = None,
    split: Split = "val",
    changes: RunChanges = None,
    plots: Annotated[
        bool,
        typer.Option(
            "--plots",
            help="Write curves.png and curves.json into the run: precision over recall, and AP "
            "and F1 against the score threshold.",
        ),
    ] = False,
) -> None:
    """Evaluate a run: COCO's figures of every row and class, the gain, results files.

    The figures of another split than val have its name in theirs: metrics.test.json. Those of
    other data than the run was trained on also have the name of their folder:
    metrics.FOLDER.val.json.
    """
    from postnms.data.layouts import canonical
    from postnms.distributed.processes import this_process
    from postnms.recipes import override_trained, parse_changes
    from postnms.runs.folder import RunFolder, hold_run, read_recipe

    run = RunFolder(folder)
    recipe = read_recipe(run)
    with hold_run(run, command_line()) if this_process().is_main_process else nullcontext():
        changed = override_trained(recipe, parse_changes(changes or []))
        _evaluate(run, changed, data, canonical(split), plots=plots)


def _evaluate(
    run: "RunFolder", recipe: "Recipe", data: Path | None, split_name: str, *, plots: bool
) -> None:
    """Evaluate a run whose folder the main process holds."""
    from postnms.distributed.processes import end_processes, get_accelerator
    from postnms.inference.evaluate import evaluate_detector
    from postnms.runs.folder import write_evaluation, write_results
    from postnms.runs.loading import load_detector
    from postnms.runs.measured import measured_name

    split, data = open_named_split(run, recipe, data, split_name)
    if plots and not split.dataset.annotated:
        raise UserError(
            f"expected a split with annotations, got {split.dataset.source} without any",
            argument="plots",
        )
    accelerator = get_accelerator()
    detector = load_detector(run, recipe, accelerator.device)
    cut: list[int] = []
    with progress_bar("images", len(split), shown=accelerator.is_main_process) as done:
        evaluation, results = evaluate_detector(
            detector,
            split,
            batch_size=recipe.evaluation.batch_size,
            bootstrap=recipe.evaluation.bootstrap,
            seed=recipe.seed,
            accelerator=accelerator,
            done=done,
            cut=cut.append,
        )
    is_main = accelerator.is_main_process
    end_processes()
    if not is_main:
        return
    truth = split.dataset.truth
    name = measured_name(run, split_name, data, truth)
    write_results(run, evaluation, results, name, data)
    limit = detector.network.max_detections
    say_cut(sum(cut), len(split), limit, f"--set {limit_setting(recipe)}=N keeps more")
    if evaluation is not None:
        write_evaluation(run, recipe, data, command_line(), split_name, name)
        print_evaluation(evaluation)
        print_classes(evaluation, run.metrics_of(name))
        _print_best_f1(evaluation)
        say_uncounted(results, len(split))
        if plots:
            _write_curves(run, name, truth, results)
        if name != split_name:
            say(f"other data than the run was trained on: figures in {run.metrics_of(name)}")
    else:
        # A test split, as of COCO, has no annotations: there are results but no figures.
        written = ", ".join(str(run.results(row, name)) for row in results)
        say(f"{truth.source} has no annotations; results to hand in: {written}")


def _print_best_f1(evaluation: "Evaluation") -> None:
    """Print the score threshold with the best F1 of every row that has one."""
    for row, best in evaluation.best_f1.items():
        if best is not None:
            share = f"precision {best.precision:.3f}, recall {best.recall:.3f}"
            say(f"{row}: best F1 {best.f1:.3f} at score {best.score:.3f} ({share})")


def _write_curves(run: "RunFolder", name: str, truth: "Truth", results: "Results") -> None:
    """Write the curves of every row as numbers and as a chart, under the name of the figures."""
    from postnms.analysis.plots import plot_curves
    from postnms.evaluation.curves import curves
    from postnms.files.atomic import write_json

    numbers, chart = run.curves(name), run.curves_chart(name)
    of_rows = {row: curves(truth, columns) for row, columns in results.items()}
    write_json(numbers, {row: lines.to_json() for row, lines in of_rows.items()}, indent=None)
    plot_curves(of_rows, chart)
    say(f"curves in {chart} and {numbers}")
