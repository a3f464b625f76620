"""``postnms export``: write a trained detector as a file for other runtimes."""

from collections.abc import Sequence
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
AroundNMS = Annotated[
    bool,
    typer.Option(
        "--around-nms",
        help="Write NAME.candidates.onnx and NAME.stage.onnx, for the NMS of your own runtime "
        "between them, in place of NAME.onnx.",
    ),
]


def export_run(
    run: Run,
    out: Out,
    form: FormOption = "onnx",
    around_nms: AroundNMS = False,
    check: Check = None,
    most: CheckMost = 20,
) -> None:
    """Write the detector of a run with its stage as one file: pixels in, detections out.

    An ONNX file has standard operators alone, and 'postnms predict model.onnx IMAGES' runs it.
    """
    from postnms.data.image_files import find_images, read_size
    from postnms.export.around_nms import export_around_nms, part_paths
    from postnms.export.writer import check_ending, check_form, export, read_metadata
    from postnms.prediction import load
    from postnms.runs.folder import RunFolder

    known = check_form(form)
    check_ending(out, known)
    if around_nms and known != "onnx":
        raise UserError(f"expected onnx with --around-nms, got {known}", argument="form")
    files = part_paths(out) if around_nms else (out,)
    for file in files:
        check_replaces(file, partial(read_metadata, form=known), "exported model")
    paths = find_images(check).paths[:most] if check else []
    for path in paths:  # An export takes a minute.
        read_size(path)
    model = load(run, device="cpu")
    source = RunFolder(run)
    if source.newest_weights == source.checkpoint:
        say(f"note: {run} is not trained to its end; its last checkpoint is exported")
    origin = _provenance(source, model)
    if around_nms:
        about = export_around_nms(model, out, origin)
    else:
        about = export(model, out, known, origin)
    for row, reason in about.left_out.items():
        say(f"note: row {row} is left out: {reason}")
    said = f"rows {', '.join(about.rows)}, dynamic {', '.join(about.dynamic)}"
    for file in files:
        say(f"{file}: {file.stat().st_size / 2**20:.1f} MiB, {said}")
    if paths:
        _check(model, files, known, paths)


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


def _check(model: "Model", files: Sequence[Path], form: "Form", paths: list[Path]) -> None:
    """Compare one file, or two around NMS, with the detector. Raises UserError if they differ."""
    from postnms.export.around_nms import open_around_nms
    from postnms.export.check import compare
    from postnms.export.writer import open_exported

    exported = open_exported(files[0], form) if len(files) == 1 else open_around_nms(*files)
    with progress_bar("images", len(paths)) as done:
        parities = compare(model, exported, paths, done)
    for parity in parities:
        say(str(parity))
    if not any(parity.detections for parity in parities):
        say("note: the run finds nothing in these images, so the check says nothing of the file")
    if not all(parity.holds for parity in parities):
        raise UserError(f"{files[0]}: expected the detections of the run, got others; see above")
