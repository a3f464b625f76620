"""``postnms demo``: train on the built-in scenes, and show what comes out."""

from pathlib import Path
from typing import Annotated

import typer

from postnms.cli.console import command_line, print_evaluation, say
from postnms.cli.options import Changes
from postnms.cli.train import run_training
from postnms.errors import UserError

PICTURES = 12
"""Number of val scenes that are drawn."""


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path("runs/demo"),
    changes: Changes = None,
) -> None:
    """Train on the built-in scenes, print both results and the gain, and write pictures."""
    from postnms.distributed.processes import end_processes, this_process
    from postnms.files.atomic import write_json
    from postnms.files.folders import check_own_folder
    from postnms.inference.pictures import draw_split
    from postnms.recipes import get_recipe, parse_changes
    from postnms.runs.folder import MARKER, RunFolder, hold_run, read_data_folder, read_recipe

    recipe = get_recipe("demo", parse_changes(changes or []))
    run = RunFolder(folder)
    check_own_folder(folder, "a run", MARKER)
    if run.recipe.is_file():
        is_demo = read_recipe(run).name == recipe.name and read_data_folder(run) is None
        if not is_demo:
            raise UserError(f"{folder}: holds a run that is no demo; name another --out")
    detector, evaluation, splits = run_training(recipe, run, None, resume=False)
    is_main = this_process().is_main_process
    end_processes()
    if not is_main:
        return
    print_evaluation(evaluation)
    with hold_run(run, command_line()):
        pictures = draw_split(detector.eval(), splits.val, folder / "pictures", most=PICTURES)
        write_json(run.pictures, [picture.relative_to(folder).as_posix() for picture in pictures])
    say(f"{len(pictures)} pictures (the truth and every result) in {folder / 'pictures'}")
