"""``postnms export``: write a trained detector as a file for other runtimes."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postnms.cli.console import command_line, progress_bar, say
from postnms.cli.options import Run
from postnms.cli.outputs import check_replaces
from postnms.errors import UserError

if TYPE_CHECKING:
    from postnms.export.writer import Form
    from postnms.prediction import Model
    from postnms.runs.folder import RunFolder

Out = Annotated[Path, typer.Option("--out", help="File to write: model.onnx, or model.pt2.")]
FormOption = Annotated[
    str, typer.Option("--format", help="onnx: for onnxruntime and others. torch_export: for torch.")
]
Check = Annotated[
    list[Path] | None,
    typer.Option(
        "--check",
        help="Image file, folder or pattern: run the file and the detector on it, and fail if they "
        "differ; repeatable.",
    ),
]
CheckMost = Annotated[
    int, typer.Option("--check-most", min=1, help="Number of images that --check looks at.")
]


def export_run(
    run: Run,
    out: Out,
    form: FormOption = "onnx",
    check: Check = None,
    most: CheckMost = 20,
) -> None:
    """Write the detector of a run with its stage as one file: pixels in, detections out.

    An ONNX file has standard operators alone, and 'postnms predict model.onnx IMAGES' runs it.
    """
    from postnms.data.image_files import find_images, read_size
    from postnms.export.writer import check_ending, check_form, export, read_metadata
    from postnms.prediction import load
    from postnms.runs.folder import RunFolder

    known = check_form(form)
    check_ending(out, known)
    check_replaces(out, partial(read_metadata, form=known), "exported model")
    paths = find_images(check).paths[:most] if check else []
    for path in paths:  # An export takes a minute.
        read_size(path)
    model = load(run, device="cpu")
    source = RunFolder(run)
    if source.newest_weights == source.checkpoint:
        say(f"note: {run} is not trained to its end; its last checkpoint is exported")
    about = export(model, out, known, _provenance(source, model))
    for row, reason in about.left_out.items():
        say(f"note: row {row} is left out: {reason}")
    size = out.stat().st_size / 2**20
    say(f"{out}: {size:.1f} MiB, rows {', '.join(about.rows)}, dynamic {', '.join(about.dynamic)}")
    if paths:
        _check(model, out, known, paths)


def _provenance(run: "RunFolder", model: "Model") -> dict[str, Any]:
    """Return where an exported model comes from."""
    from postnms.files.atomic import hash_of
    from postnms.runs.provenance import provenance

    facts = provenance(0 if model.recipe is None else model.recipe.seed, None, command_line())
    return {
        "command": facts["command"],
        "commit": facts["commit"],
        "run": run.root.resolve().name,
        "weights": run.newest_weights.name,
        "weights_sha256": hash_of(run.newest_weights),
        "recipe": None if model.recipe is None else model.recipe.name,
    }


def _check(model: "Model", out: Path, form: "Form", paths: list[Path]) -> None:
    """Compare the file with the detector. Raises UserError if they differ."""
    from postnms.export.check import compare
    from postnms.export.writer import open_exported

    exported = open_exported(out, form)
    with progress_bar("images", len(paths)) as done:
        parities = compare(model, exported, paths, done)
    for parity in parities:
        say(str(parity))
    if not all(parity.holds for parity in parities):
        raise UserError(f"{out}: expected the detections of the run, got others; see above")
