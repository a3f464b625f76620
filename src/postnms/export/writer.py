"""A trained detector into one file: ONNX, or a program of ``torch.export``."""

import io
import json
import zipfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import torch

from postnms.errors import UserError, shown
from postnms.export.candidates import FOUND
from postnms.export.graph import DetectionGraph, Form, exported_rows
from postnms.export.metadata import COLUMNS, INPUT, ExportMetadata
from postnms.export.onnx_model import ENDING, ExportedModel, OnnxModel
from postnms.export.program import AXES, OPSET, example_images, quiet, to_onnx, trace
from postnms.files.atomic import atomic_path
from postnms.files.json_files import parse_json
from postnms.prediction import Model

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""Packages that ONNX needs."""
ABOUT = "postnms.json"
"""Name of the metadata in a program of ``torch.export``."""
ENDINGS: dict[Form, str] = {"onnx": ENDING, "torch_export": ".pt2"}
"""Ending of the files of each form."""


def export(model: Model, path: Path, form: Form, provenance: dict[str, Any]) -> ExportMetadata:
    """Write a model as one file, the whole path from pixels to the detections of its rows.

    Args:
        model: a trained detector, on the CPU.
        path: the file, which is replaced.
        form: ``onnx`` for onnxruntime and others, or ``torch_export`` for torch.
        provenance: facts about the run and the command, for the metadata.

    Returns:
        What the file says of itself.

    Raises:
        UserError: the detector cannot be exported, or the file cannot be written.
    """
    check_network(model)
    about = metadata_of(model, form, provenance)
    graph = DetectionGraph(model.detector, about.rows)
    program = trace(graph, example_images(about.input_size[0]))
    if form == "torch_export":
        write_program(program, path, about)
        return about
    axes: dict[int, str] = dict(zip((0, 2, 3), AXES, strict=True))
    write_onnx(to_onnx(program, [INPUT], about.outputs, [axes]), path, about)
    return about


def check_form(form: str) -> Form:
    """Return the form. Raise UserError unless it is known and its packages are installed."""
    known: dict[str, Form] = {name: name for name in get_args(Form)}
    if form not in known:
        raise UserError(f"expected one of {', '.join(known)}, got {shown(form)}", argument="form")
    if form == "onnx":
        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            raise UserError(
                f"export to ONNX needs {', '.join(missing)}: pip install 'postnms[export]'"
            )
    return known[form]


def check_ending(path: Path, form: Form) -> None:
    """Raise UserError unless the name of a file ends as those of a form do.

    ``postnms predict`` and torch tell by the ending what a file is.
    """
    if path.suffix != ENDINGS[form]:
        raise UserError(
            f"expected a name that ends in {ENDINGS[form]} for the format {form}, got {path}",
            argument="out",
        )


def check_network(model: Model) -> None:
    """Raise UserError unless the network is one that can be exported."""
    network = model.detector.network
    if type(network) not in FOUND:
        names = ", ".join(kind.__name__ for kind in FOUND)
        raise UserError(
            f"a network of class {type(network).__name__} cannot be exported, its candidates are "
            f"code of its own; those that can are {names}"
        )


def metadata_of(model: Model, form: Form, provenance: dict[str, Any]) -> ExportMetadata:
    """Return what the exported file of a model says of itself."""
    detector = model.detector
    network: Any = detector.network
    transform = network.transform
    rows = exported_rows(detector, form)
    size = (int(transform.min_size[-1]), int(transform.max_size))
    best = {row: found.score for row, found in model.best_f1.items() if found is not None}
    return ExportMetadata(
        rows=rows,
        classes=model.categories,
        input_size=model.input_size or size,
        preprocessing={
            "input": f"{INPUT}: (batch, 3, height, width) uint8, RGB, all of one size",
            "before": "resize to input_size: the shorter side to the first number, unless the "
            "longer side would exceed the second; bilinear with anti-aliasing",
            "in_the_model": {
                "scale": 1 / 255,
                "mean": list(transform.image_mean),
                "std": list(transform.image_std),
                "pad_to_multiple_of": transform.size_divisible,
                "fixed_size": list(getattr(transform, "fixed_size", None) or []),
            },
            "outputs": f"for each row {', '.join(COLUMNS)}; boxes xyxy in pixels of the input",
        },
        thresholds={
            "score": _score_threshold(network),
            "nms_iou": network.nms_threshold,
            "max_detections": network.max_detections,
            "best_f1": best,
        },
        dynamic=AXES,
        left_out={
            row: "its suppressor or head has no form in standard operators"
            for row in detector.row_names
            if row not in rows
        },
        provenance={
            **provenance,
            "form": form,
            "torch": torch.__version__,
            "version": version("postnms"),
            **({"opset": OPSET} if form == "onnx" else {}),
        },
    )


def _score_threshold(network: Any) -> float:
    if hasattr(network, "settings"):
        return network.settings.score_thresh
    head = network.roi_heads if hasattr(network, "roi_heads") else network.heads[-1]
    return head.score_thresh


def write_onnx(model: Any, path: Path, about: ExportMetadata) -> None:
    """Write an ONNX model with its metadata."""
    import onnx

    model.producer_name, model.producer_version = "postnms", version("postnms")
    onnx.helper.set_model_props(model, about.to_strings())
    # A second pass over the types finds what a runtime would refuse.
    onnx.checker.check_model(model)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def write_program(program: Any, path: Path, about: ExportMetadata) -> None:
    """Write a program of ``torch.export`` with its metadata."""
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files={ABOUT: json.dumps(about.to_strings())})
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def read_metadata(path: Path, form: Form) -> ExportMetadata:
    """Return what an exported file says of itself. Raises UserError if it is of another kind."""
    if form == "torch_export":
        return read_program(path)[1]
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise UserError(f"{path}: expected an ONNX model: {error}") from error
    return ExportMetadata.from_strings({p.key: p.value for p in model.metadata_props}, str(path))


def read_program(path: Path) -> tuple[Any, ExportMetadata]:
    """Return a program of ``torch.export`` as a module, and its metadata.

    Raises UserError if the file is of another kind.
    """
    files = {ABOUT: ""}
    # torch would log the traces of all its readers for a file that is no archive.
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: expected a program of torch.export, got another or a cut file")
    try:
        with quiet():
            program = torch.export.load(path, extra_files=files)
    except Exception as error:  # A damaged part may be of any of torch's own formats.
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: expected a program of torch.export: {line[:200]}") from error
    strings = parse_json(files[ABOUT], f"{path}: {ABOUT}") if files[ABOUT] else {}
    return program.module(), ExportMetadata.from_strings(strings, str(path))


def open_exported(path: Path, form: Form) -> ExportedModel:
    """Return the model of an exported file. Raises UserError if it cannot be read."""
    if form == "onnx":
        return OnnxModel(path)
    module, about = read_program(path)

    def run(pixels: Any) -> list[Any]:
        try:
            with torch.no_grad():
                return [output.numpy() for output in module(torch.from_numpy(pixels))]
        except AssertionError as error:
            height, width = pixels.shape[2:]
            raise UserError(
                f"{path}: its program does not take images of {height} x {width} pixels: {error}"
            ) from error

    return ExportedModel(about, run)
