"""A detector as a program of ``torch.export``, and as an ONNX model.

B: images.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from postnms.errors import UserError

AXES = ("batch", "height", "width")
"""The axes of the input that may have any length, with the numbers 0, 2 and 3."""
OPSET = 18
"""Version of ONNX's operators. From it on scatter has reductions."""
SIDE = 128
"""Least side in pixels of the images that a program is traced with.

An ONNX model takes any other side, a program of torch one of at least 65 pixels.
"""
_ASSERTIONS = ("aten._assert_async.msg", "aten._assert_scalar.default")


def example_images(shortest: int) -> Tensor:
    """Return images (B, 3, h, w) uint8 to trace a program with. No length is that of another."""
    side = max(SIDE, min(shortest, 2 * SIDE))
    return torch.zeros(2, 3, side, side + 64, dtype=torch.uint8)


def trace(graph: nn.Module, images: Tensor) -> ExportedProgram:
    """Return a graph as a program for any number of images of any size.

    Raises UserError if torch cannot trace it.
    """
    lengths = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    return trace_any(graph, (images,), (lengths,))


def trace_any(
    graph: nn.Module, inputs: tuple[Any, ...], lengths: tuple[Any, ...]
) -> ExportedProgram:
    """Return a graph as a program. ``lengths`` says which axes of the inputs are dynamic."""
    with torch.no_grad(), quiet(), _explained("torch.export"):
        # Structures are built from lengths of tensors. Only the strict mode takes them as symbols.
        return torch.export.export(graph.eval(), inputs, dynamic_shapes=lengths, strict=True)


def to_onnx(
    program: ExportedProgram,
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Sequence[dict[int, str]],
    output_axes: Sequence[dict[int, str]] | None = None,
) -> Any:
    """Return a program as an ONNX model of the package ``onnx``.

    Args:
        program: what :func:`trace` gives. Its checks of values are removed from it.
        inputs: names of the inputs.
        outputs: names of the outputs.
        axes: for each input the names of its dynamic axes.
        output_axes: the same of each output. None: the first axis of each has the name of its row.

    Raises:
        UserError: an operation of the program has no form in ONNX.
    """
    from postnms.export import operators, suppressors

    _remove_assertions(program)
    with quiet(), _explained("torch.onnx.export"):
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            custom_translation_table={**operators.translations(), **suppressors.translations()},
            verbose=False,
        )
    assert made is not None
    _name_axes(made.model, axes, output_axes)
    return made.model_proto


def _remove_assertions(program: ExportedProgram) -> None:
    """Remove the checks of values, for which ONNX has no operator."""
    for node in list(program.graph.nodes):
        if node.op == "call_function" and str(node.target) in _ASSERTIONS:
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()


def _name_axes(
    model: Any, axes: Sequence[dict[int, str]], output_axes: Sequence[dict[int, str]] | None
) -> None:
    """Give the dynamic axes of the inputs and the outputs names."""
    outputs = list(model.graph.outputs)
    if output_axes is None:
        output_axes = [{0: f"{value.name.rpartition('_')[0]}_detections"} for value in outputs]
    named = zip([*model.graph.inputs, *outputs], [*axes, *output_axes], strict=True)
    for value, names in named:
        for axis, name in names.items():
            if value.shape is not None and not isinstance(value.shape[axis], int):
                value.shape[axis] = name


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporters of torch warn of and log: it is about their own insides."""
    names = ("torch.onnx", "torch.export", "torch._export", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _explained(step: str) -> Iterator[None]:
    """Raise UserError in one line for whatever an exporter of torch raises."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # The exporters raise errors of many kinds.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise UserError(
            f"the detector cannot be exported, {step} does not take a step of it: {reason[:300]}"
        ) from error
