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
    typer.Option(help="Folder with the images and the COCO annotations that the recipe names."),
]
Annotations = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Annotation file, or the folder with it; not needed for the built-in scenes."
    ),
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
Suppressors = Annotated[
    str | None,
    typer.Option(
        help="Names from 'postnms suppressors', separated by commas; settings as in nms:iou=0.6.",
        autocompletion=suppressor_names,
    ),
]
