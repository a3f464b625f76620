"""``postnms convert``: detections with cluster ids and types of errors, for other viewers."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from postnms.cli.compare import open_named_study
from postnms.cli.console import command_line, progress_bar, say
from postnms.cli.data import open_named_split
from postnms.cli.options import Annotations, AnySplit, Suppressors
from postnms.cli.suppressors import read_choices
from postnms.errors import UserError

if TYPE_CHECKING:
    from postnms.data.dataset import Truth
    from postnms.viewers.rows import ViewedRow

Viewer = Literal["fiftyone", "supervision", "cvat"]

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="File of candidates, folder of a run, or COCO results (.json, .json.gz).",
    ),
]
Form = Annotated[
    Viewer, typer.Option("--format", help="What reads the files: fiftyone, supervision or cvat.")
]
MinScore = Annotated[
    float, typer.Option("--min-score", help="Detections that score less are left out.")
]


def convert(
    source: Source,
    folder: Annotated[Path, typer.Option("--out", help="Folder to write the files to.")],
    viewer: Form,
    data: Annotations = None,
    split: AnySplit = None,
    suppressor: Suppressors = None,
    min_score: MinScore = 0.0,
) -> None:
    """Write detections with cluster ids and types of errors as files that other viewers read.

    A file of candidates gives all candidates, the rows of its run, and those of --suppressor, each
    box with the cluster that it belongs to. Runs and results give their rows.
    """
    from postnms.candidate_files.reader import RESULTS
    from postnms.files.folders import own_folder
    from postnms.viewers.written import MARKER, write_for_viewer

    is_candidates = not source.is_dir() and not source.name.endswith(RESULTS)
    if suppressor is not None and not is_candidates:
        raise UserError(f"--suppressor: expected a file of candidates beside it, got {source}")
    if not math.isfinite(min_score):
        raise UserError(f"expected a finite number, got {min_score}", argument="min_score")
    if is_candidates:
        truth, rows, about = _from_candidates(source, data, split, suppressor)
    elif source.is_dir():
        truth, rows, about = _from_run(source, data, split or "val")
    else:
        truth, rows, about = _from_results(source, data, split)
    rows = [row.above(min_score) for row in rows]
    with own_folder(folder, "a folder of files for a viewer", MARKER, command=command_line()):
        files = write_for_viewer(viewer, truth, rows, folder, {**about, "min_score": min_score})
    for row in rows:
        say(f"{row.name}: {len(row.columns)} boxes{_errors(row)}")
    say(f"{', '.join(files[:-1])} and {files[-1]} in {folder}")


def _errors(row: "ViewedRow") -> str:
    """Return how many boxes have which verdict, in words."""
    from postnms.evaluation.tide import VERDICTS

    if row.verdicts is None:
        return ""
    counts = {verdict: int((row.verdicts == verdict).sum()) for verdict in VERDICTS}
    return "".join(f", {verdict} {count}" for verdict, count in counts.items() if count)


Opened = tuple["Truth", "list[ViewedRow]", dict[str, Any]]


def _from_candidates(
    path: Path, data: Path | None, split: str | None, suppressor: str | None
) -> Opened:
    """Return the truth, the rows, and where they come from."""
    from postnms.cli.compare import about_study
    from postnms.viewers.from_candidates import rows_of_file

    study = open_named_study(path, data, split)
    file = study.candidates
    choices = read_choices(suppressor, file) if suppressor else []
    if not file.rows and not choices:
        choices = read_choices("nms", file)
    with progress_bar("rows", 1 + len(file.rows) + len(choices)) as done:
        rows = rows_of_file(file, study.truth, choices, done)
    return study.truth, rows, about_study(study)


def _from_run(path: Path, data: Path | None, split: str) -> Opened:
    """Return the truth, the rows of the last evaluation, and where they come from."""
    from postnms.data.layouts import canonical
    from postnms.detectors.output import ROW_TITLES
    from postnms.runs.folder import RunFolder, read_recipe
    from postnms.runs.measured import measured_name
    from postnms.runs.provenance import provenance
    from postnms.viewers.from_results import row_of_results

    run, split = RunFolder(path), canonical(split)
    recipe = read_recipe(run)
    opened, data = open_named_split(run, recipe, data, split)
    truth = opened.dataset.truth
    name = measured_name(run, split, data, truth)
    files = {row: run.results(row, name) for row in ROW_TITLES}
    files = {row: file for row, file in files.items() if file.is_file()}
    if not files:
        raise UserError(f"{path}: no results on the split {name}; run postnms eval first")
    rows = [row_of_results(row, truth, file) for row, file in files.items()]
    return truth, rows, {**provenance(recipe.seed, data, command_line()), "run": path.name}


def _from_results(path: Path, data: Path | None, split: str | None) -> Opened:
    """Return the truth, the row of a file of results, and where they come from."""
    from postnms.data.splits import find_truth
    from postnms.runs.provenance import provenance
    from postnms.viewers.from_results import row_of_results

    if data is None:
        raise UserError(f"{path} needs the annotations of its images: name them", argument="data")
    truth = find_truth(data, split)
    name = path.name.removesuffix(".gz").removesuffix(".json").removeprefix("results_")
    about = {**provenance(0, data, command_line()), "results": path.name}
    return truth, [row_of_results(name, truth, path)], about
