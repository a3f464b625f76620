"""The options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

from postnms.cli.completion import recipe_names, suppressor_names

Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change a field of the recipe, for example stage.weighting=cls; repeatable."
    ),
]
RunChanges = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change a field that counts after training, such as stage.fusion=[1,0,0]; repeatable.",
    ),
]
DataChanges = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change a field of data, for example data.val_fraction=0.2; repeatable."
    ),
]
RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A name from 'postnms recipes list', or a recipe file (.yaml, .yml, .json).",
        autocompletion=recipe_names,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="Data folder or data.yaml: COCO, YOLO, Pascal VOC, Hugging Face."),
]
Annotations = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="COCO annotation file, data folder or data.yaml; not needed for the built-in scenes.",
    ),
]
Split = Annotated[
    str, typer.Option(help="Split of the data: val, test, train, or another name that they have.")
]
AnySplit = Annotated[
    str | None,
    typer.Option("--split", help="Split of the data folder; default: that of the dump, or val."),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run that 'train' has made.")]
Candidates = Annotated[
    Path,
    typer.Argument(
        metavar="CANDIDATES", help="File that 'dump' or 'import-candidates' has written."
    ),
]
CandidatesOut = Annotated[
    Path, typer.Option("--out", help="File of candidates to write (.safetensors).")
]
Bootstrap = Annotated[
    int,
    typer.Option(min=0, help="Number of resamples for the interval of the gain; 0: no interval."),
]
Jobs = Annotated[int, typer.Option(min=1, help="Number of runs side by side.")]
Threads = Annotated[int, typer.Option(min=1, help="Number of threads of each run.")]
PrintCommands = Annotated[
    bool,
    typer.Option(
        "--commands",
        help="Run nothing; print what is left to do as shell commands. The lines do not depend on "
        "each other.",
    ),
]
FromRecords = Annotated[
    bool,
    typer.Option(
        "--recorded",
        help="Take a run whose folder is not there from its record beside the page, and do not "
        "train it again.",
    ),
]
Suppressors = Annotated[
    str | None,
    typer.Option(
        help="Names from 'postnms suppressors', separated by commas; settings as in nms:iou=0.6.",
        autocompletion=suppressor_names,
    ),
]
