"""The verbs of the command line under their names, and the entry point.

A verb is a function in a file of its own. Its parameters are its options and its docstring is its
help. Whatever is slow to import is imported inside the function, so that ``--help`` is fast.
"""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from postnms.cli.analyse import analyse
from postnms.cli.benchmark import benchmark
from postnms.cli.candidates import dump, import_candidates
from postnms.cli.check import check
from postnms.cli.compare import compare
from postnms.cli.console import show_warnings, visible
from postnms.cli.convert import convert
from postnms.cli.demo import demo
from postnms.cli.evaluate import evaluate
from postnms.cli.experiment import experiment
from postnms.cli.export import export_run
from postnms.cli.memory import keep_freed_memory
from postnms.cli.predict import predict
from postnms.cli.recipes import list_recipes, show_recipe
from postnms.cli.report import report
from postnms.cli.reproduce import reproduce
from postnms.cli.rescore import rescore
from postnms.cli.scenes import scenes
from postnms.cli.suppressors import suppressors
from postnms.cli.train import check_resume, train
from postnms.cli.train_rescorer import train_rescorer
from postnms.cli.tune import tune_fusion
from postnms.errors import UserError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
recipes = typer.Typer(
    no_args_is_help=True, help="List the named recipes, or show all settings of one."
)

app.command("demo")(demo)
app.command("scenes")(scenes)
app.command("check")(check)
app.command("train")(train)
app.command("eval")(evaluate)
app.command("experiment")(experiment)
app.command("reproduce")(reproduce)
app.command("predict")(predict)
app.command("export")(export_run)
app.command("dump")(dump)
app.command("import-candidates")(import_candidates)
app.command("suppressors")(suppressors)
app.command("compare")(compare)
app.command("tune-fusion")(tune_fusion)
app.command("train-rescorer")(train_rescorer)
app.command("rescore")(rescore)
app.command("analyse")(analyse)
app.command("convert")(convert)
app.command("report")(report)
app.command("benchmark")(benchmark)
recipes.command("list")(list_recipes)
recipes.command("show")(show_recipe)
app.add_typer(recipes, name="recipes")

OPTIONS = {
    "both": "--both",
    "changes": "--set",
    "data": "--data",
    "class_agnostic": "--class-agnostic",
    "device": "--device",
    "form": "--format",
    "formats": "--format",
    "fusion": "--fusion",
    "json_to": "--json",
    "only": "--only",
    "out": "--out",
    "min_score": "--min-score",
    "name": "--name",
    "overlap": "--overlap",
    "page": "--page",
    "plots": "--plots",
    "recorded": "--recorded",
    "row": "--row",
    "runs": "--runs",
    "seeds": "--seeds",
    "split": "--split",
    "suppressed": "--suppressed",
    "suppressor": "--suppressor",
    "sweep": "--sweep",
    "tile": "--tile",
}
"""The option that an argument of the library comes from, by the name of the argument."""


def _show_version(asked: bool) -> None:
    if asked:
        print(f"postnms {version('postnms')}")
        raise typer.Exit


@app.callback()
def _about(
    asked: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Post-NMS training for object detection: more AP from the boxes that NMS throws away."""


def main() -> None:
    """Run the command line.

    A mistake of the user, or a refusal of the operating system, is printed as one line. The exit
    status is then 2.
    """
    show_warnings()
    keep_freed_memory()
    try:
        check_resume(sys.argv)
        app()
    except UserError as error:
        print(f"postnms: {visible(_with_option(error))}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"postnms: {visible(str(error))}", file=sys.stderr)
        sys.exit(2)


def _with_option(error: UserError) -> str:
    """Return the message with the user's option in place of the library's argument."""
    if error.argument not in OPTIONS:
        return str(error)
    return str(error).replace(error.argument, OPTIONS[error.argument], 1)
