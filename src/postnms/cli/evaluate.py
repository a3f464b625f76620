"""``postnms eval``: measure the detector of a run."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from postnms.cli.console import command_line, print_evaluation, progress_bar, say
from postnms.cli.data import open_named_split
from postnms.cli.options import Changes, Data, Run, Split

if TYPE_CHECKING:
    from postnms.recipes import Recipe
    from postnms.runs.folder import RunFolder


def evaluate(folder: Run, data: Data = None, split: Split = "val", changes: Changes = None) -> None:
    """Evaluate a run: COCO's figures of every row, the gain, results files.

    The figures of another split than val have its name in theirs: metrics.test.json.
    """
    from postnms.data.layouts import canonical
    from postnms.distributed.processes import this_process
    from postnms.recipes import override, parse_changes
    from postnms.runs.folder import RunFolder, hold_run, read_recipe

    run = RunFolder(folder)
    recipe = read_recipe(run)
    with hold_run(run, command_line()) if this_process().is_main_process else nullcontext():
        changed = override(recipe, parse_changes(changes or []))
        _evaluate(run, changed, data, canonical(split))


def _evaluate(run: "RunFolder", recipe: "Recipe", data: Path | None, name: str) -> None:
    """Evaluate a run whose folder the main process holds."""
    from postnms.distributed.processes import end_processes, get_accelerator
    from postnms.inference.evaluate import evaluate_detector
    from postnms.runs.folder import write_evaluation, write_results
    from postnms.runs.loading import load_detector

    split, data = open_named_split(run, recipe, data, name)
    accelerator = get_accelerator()
    detector = load_detector(run, recipe, accelerator.device)
    with progress_bar("images", len(split), shown=accelerator.is_main_process) as done:
        evaluation, results = evaluate_detector(
            detector,
            split,
            batch_size=recipe.evaluation.batch_size,
            bootstrap=recipe.evaluation.bootstrap,
            seed=recipe.seed,
            accelerator=accelerator,
            done=done,
        )
    is_main = accelerator.is_main_process
    end_processes()
    if not is_main:
        return
    write_results(run, evaluation, results, name)
    if evaluation is not None:
        write_evaluation(run, recipe, data, command_line(), name)
        print_evaluation(evaluation)
    else:
        # A test split, as of COCO, has no annotations: there are results but no figures.
        written = ", ".join(str(run.results(row, name)) for row in results)
        say(f"{split.dataset.source} has no annotations; results to hand in: {written}")
