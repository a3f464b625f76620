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
    list[str] | None,
    typer.Option("--set", help="Change a field, for example stage.weighting=cls; repeatable."),
]
Freeze = Literal["none", "detector"]
Data = Annotated[
    Path | None,
    typer.Option(help="Folder with images and COCO annotations, named as in the recipe."),
]

Truths = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Annotation file, or the folder with it; not needed for built-in scenes."
    ),
]
Suppressors = Annotated[
    str | None,
    typer.Option(
        help="Names of 'postnms suppressors', with other settings as nms:iou=0.6, separated by commas."
    ),
]


@app.callback()
def _about() -> None:
    """Post-NMS training for object detection: cluster what NMS suppresses, re-score and re-locate what it keeps."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Run folder.")] = Path("runs/demo"),
    overrides: Overrides = None,
) -> None:
    """Train on the built-in crowded scenes, print both results and their gain, and write pictures."""
    from postnms.cli import train as verbs

    verbs.demo(folder, overrides or [], out)


@app.command()
def scenes(
    folder: Annotated[
        Path, typer.Option("--out", help="Folder to write images and annotations to.")
    ],
    train: Annotated[int | None, typer.Option(min=0, help="Images of the train split.")] = None,
    val: Annotated[int | None, typer.Option(min=0, help="Images of the val split.")] = None,
    size: Annotated[int | None, typer.Option(min=32, help="Side of the images in pixels.")] = None,
    crowding: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of objects in clumps.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write the crowded scenes in COCO format, to look at or to train other tools on."""
    from postnms.cli import train as verbs

    verbs.scenes(
        folder, {"train": train, "val": val, "size": size, "crowding": crowding}, seed, out
    )


@recipes_app.command("list")
def recipes_list() -> None:
    """All named recipes with what they are for."""
    from postnms.cli import train as verbs

    verbs.list_recipes(out)


@recipes_app.command("show")
def recipes_show(name: str, overrides: Overrides = None) -> None:
    """The whole config of a recipe as JSON."""
    from postnms.cli import train as verbs

    verbs.show_recipe(name, overrides or [], out)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A named recipe; see 'postnms recipes list'.")],
    folder: Annotated[Path, typer.Option("--out", help="Run folder.")],
    data: Data = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Start from these weights: a run, its weights, or a detector's state-dict file.",
        ),
    ] = None,
    freeze: Annotated[
        Freeze | None, typer.Option(help="'detector' trains the stage alone, 'none' trains all.")
    ] = None,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the folder's checkpoint.")
    ] = False,
) -> None:
    """Train a detector with its stage, evaluate both results, write the run folder."""
    from postnms.cli import train as verbs

    settings = {"training.start_from": start and str(start), "training.freeze": freeze}
    changes = [
        f"{path}={json.dumps(value)}" for path, value in settings.items() if value is not None
    ]
    verbs.train(recipe, folder, data, [*changes, *(overrides or [])], resume, out)


@app.command("eval")
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of 'train'.")],
    data: Data = None,
    overrides: Overrides = None,
) -> None:
    """Evaluate a run on the val split: COCO metrics of every row, the gain, COCO results files."""
    from postnms.cli import train as verbs

    verbs.evaluate(folder, data, overrides or [], out)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of 'train'.")],
    inputs: Annotated[list[Path], typer.Argument(help="Image files or folders of images.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for pictures and COCO results.")],
    both: Annotated[
        bool, typer.Option("--both", help="Draw the NMS and the post-NMS result side by side.")
    ] = False,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Least score that is drawn.")
    ] = 0.3,
) -> None:
    """Detect objects in images; writes pictures and COCO results."""
    from postnms.cli import train as verbs

    verbs.predict(run, inputs, folder, both, min_score, out)


@app.command()
def dump(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of 'train'.")],
    file: Annotated[
        Path, typer.Option("--out", help="File of candidates to write (.safetensors).")
    ],
    data: Data = None,
    score_threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Candidates score more than this; default: the detector's own."
        ),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option(
            "--max-candidates", min=1, help="Most candidates an image, by score; default: all."
        ),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Write a run's un-suppressed candidates of the val split to a file, to replay suppressors on."""
    from postnms.cli import compare as candidate_verbs

    candidate_verbs.dump(run, data, file, overrides or [], score_threshold, most, out)


@app.command("import-candidates")
def import_candidates(
    results: Annotated[
        Path, typer.Argument(help="COCO results (JSON, plain or gzip) of un-suppressed boxes.")
    ],
    data: Annotated[
        Path,
        typer.Option(help="Annotation file of the images, or a folder with instances_val.json."),
    ],
    file: Annotated[
        Path, typer.Option("--out", help="File of candidates to write (.safetensors).")
    ],
) -> None:
    """Write another detector's un-suppressed boxes as a file of candidates."""
    from postnms.cli import compare as candidate_verbs

    candidate_verbs.import_candidates(results, data, file, out)


@app.command()
def suppressors() -> None:
    """All suppressors by name, with their settings."""
    from postnms.cli import compare as candidate_verbs

    candidate_verbs.list_suppressors(out)


@app.command()
def compare(
    file: Annotated[
        Path, typer.Argument(metavar="CANDIDATES", help="File of 'dump' or 'import-candidates'.")
    ],
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for compare.csv, compare.json and compare.png.")
    ],
    data: Truths = None,
    suppressor: Suppressors = None,
    sweeps: Annotated[
        list[str] | None,
        typer.Option("--sweep", help="Also with other values: iou=0.3:0.7:0.05; repeatable."),
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Resamples for the interval of the gain; 0: none.")
    ] = 1000,
) -> None:
    """Replay suppressors on the same candidates: COCO metrics, time, and the gain over greedy NMS."""
    from postnms.cli import compare as candidate_verbs

    candidate_verbs.compare_suppressors(
        file, data, suppressor, sweeps or [], folder, bootstrap, out
    )


@app.command()
def analyse(
    file: Annotated[
        Path, typer.Argument(metavar="CANDIDATES", help="File of 'dump' or 'import-candidates'.")
    ],
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for analyse.json, errors.png and placement.png.")
    ],
    data: Truths = None,
    suppressor: Suppressors = None,
    recall: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1, help="Where duplicates are counted; default: what all rows reach."
        ),
    ] = None,
) -> None:
    """What suppressors get wrong (error types as TIDE has them), duplicates, and how well clusters are placed."""
    from postnms.cli import compare as candidate_verbs

    candidate_verbs.analyse_candidates(file, data, suppressor, recall, folder, out)


@app.command()
def benchmark(
    folder: Annotated[
        Path,
        typer.Option("--out", help="Folder for benchmark.json, benchmark.md and clustering.png."),
    ],
    rounds: Annotated[
        int, typer.Option(min=1, help="Calls of each side; fewer of what takes long.")
    ] = 7,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the largest sizes.")] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads of the second pass, after that of one; default: all cores."
        ),
    ] = None,
) -> None:
    """How fast clustering and pooling are on this machine, beside torchvision and what else is installed."""
    from postnms.cli import benchmark as speed_verbs

    speed_verbs.benchmark(folder, rounds, threads, quick, out)


def main() -> None:
    """Entry point: a UserError, or a refusal of the operating system, is printed as one line; exits with status 2."""
    try:
        app()
    except (UserError, OSError) as error:
        print(f"postnms: {error}", file=sys.stderr)
        sys.exit(2)
