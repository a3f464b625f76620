"""The command line: verbs and their options, nothing else. A mistake of the user's is one line on stderr."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from postnms.errors import UserError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
recipes_app = typer.Typer(no_args_is_help=True, help="List the named recipes, or show one whole.")
app.add_typer(recipes_app, name="recipes")
out = Console(highlight=False, markup=False)

Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change a field, for example stage.weighting=cls; repeatable.")
]
Freeze = Literal["none", "detector"]
Data = Annotated[Path | None, typer.Option(help="Folder with images and COCO annotations, named as in the recipe.")]


@app.callback()
def _about() -> None:
    """Post-NMS training for object detection: cluster what NMS suppresses, re-score and re-locate what it keeps."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Run folder.")] = Path("runs/demo"),
    overrides: Overrides = None,
) -> None:
    """Train on the built-in crowded scenes, print both results and their gain, and write pictures."""
    from postnms import verbs

    verbs.demo(folder, overrides or [], out)


@app.command()
def scenes(
    folder: Annotated[Path, typer.Option("--out", help="Folder to write images and annotations to.")],
    train: Annotated[int | None, typer.Option(min=0, help="Images of the train split.")] = None,
    val: Annotated[int | None, typer.Option(min=0, help="Images of the val split.")] = None,
    size: Annotated[int | None, typer.Option(min=32, help="Side of the images in pixels.")] = None,
    crowding: Annotated[float | None, typer.Option(min=0, max=1, help="Share of objects in clumps.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write the crowded scenes in COCO format, to look at or to train other tools on."""
    from postnms import verbs

    verbs.scenes(folder, {"train": train, "val": val, "size": size, "crowding": crowding}, seed, out)


@recipes_app.command("list")
def recipes_list() -> None:
    """All named recipes with what they are for."""
    from postnms import verbs

    verbs.list_recipes(out)


@recipes_app.command("show")
def recipes_show(name: str, overrides: Overrides = None) -> None:
    """The whole config of a recipe as JSON."""
    from postnms import verbs

    verbs.show_recipe(name, overrides or [], out)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A named recipe; see 'postnms recipes list'.")],
    folder: Annotated[Path, typer.Option("--out", help="Run folder.")],
    data: Data = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Start from these weights: a run, its weights, or a detector's state-dict file."),
    ] = None,
    freeze: Annotated[Freeze | None, typer.Option(help="'detector' trains the stage alone, 'none' trains all.")] = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the folder's checkpoint.")] = False,
) -> None:
    """Train a detector with its stage, evaluate both results, write the run folder."""
    from postnms import verbs

    settings = {"training.start_from": start and str(start), "training.freeze": freeze}
    changes = [f"{path}={json.dumps(value)}" for path, value in settings.items() if value is not None]
    verbs.train(recipe, folder, data, [*changes, *(overrides or [])], resume, out)


@app.command("eval")
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of 'train'.")],
    data: Data = None,
    overrides: Overrides = None,
) -> None:
    """Evaluate a run on the val split: COCO metrics of every row, the gain, COCO results files."""
    from postnms import verbs

    verbs.evaluate(folder, data, overrides or [], out)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of 'train'.")],
    inputs: Annotated[list[Path], typer.Argument(help="Image files or folders of images.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for pictures and COCO results.")],
    both: Annotated[bool, typer.Option("--both", help="Draw the NMS and the post-NMS result side by side.")] = False,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Least score that is drawn.")] = 0.3,
) -> None:
    """Detect objects in images; writes pictures and COCO results."""
    from postnms import verbs

    verbs.predict(run, inputs, folder, both, min_score, out)


def main() -> None:
    """Entry point: a UserError, or a refusal of the operating system, is printed as one line; exits with status 2."""
    try:
        app()
    except (UserError, OSError) as error:
        print(f"postnms: {error}", file=sys.stderr)
        sys.exit(2)
