"""Checks of arguments that the operations share. Every message begins with the argument's name."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.masked import MaskedTensor


@dataclass(frozen=True)
class Dtypes:
    """Dtypes that an argument may have."""

    names: str
    """The dtypes in words, for messages."""
    members: tuple[torch.dtype, ...]


FLOATING = Dtypes(
    "float16, bfloat16, float32 or float64",
    (torch.float32, torch.float16, torch.bfloat16, torch.float64),
)
"""Floats that torch computes with. It only stores those of 8 bits."""

INTEGER = Dtypes(
    "int64 or a smaller integer",
    (
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint32,
        torch.uint16,
        torch.uint8,
    ),
)
"""Integers whose values int64 holds."""

NUMBERS = (float, int, np.floating, np.integer, torch.SymFloat, torch.SymInt)
"""Classes of real numbers."""


def check_dense(name: str, value: object) -> None:
    """Raise ValueError unless the value is a tensor whose elements lie in memory one by one.

    Its shape is not read, because ``torch.jit.trace`` warns of a decision that depends on it.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected a tensor, got {type(value).__name__}")
    kind = ""
    if value.is_nested:
        kind = "a nested one"
    elif value.layout != torch.strided:
        kind = f"one of layout {value.layout}"
    elif value.is_quantized:
        kind = "a quantized one"
    elif value.is_meta:
        kind = "one on the device meta, which has no values"
    elif isinstance(value, MaskedTensor):
        kind = "a masked one"
    if kind:
        raise ValueError(f"{name}: expected a dense tensor, got {kind}")


def check_column(name: str, tensor: Tensor, shape: Sequence[int | str], dtypes: Dtypes) -> None:
    """Raise ValueError unless a tensor has one of the dtypes, and the shape.

    A letter in ``shape`` stands for any length. In a graph, lengths are symbols. There, the
    comparison of two of them is noted, and it is decided when the graph runs.
    """
    came = tensor.shape
    if tensor.dtype not in dtypes.members or len(came) != len(shape):
        raise ValueError(_expected_column(name, tensor, shape, dtypes))
    for length, wanted in zip(came, shape, strict=True):
        if type(wanted) is str:
            continue
        fits = length == wanted
        if fits is not True:
            torch._check_value(fits, partial(_expected_column, name, tensor, shape, dtypes))


def _expected_column(name: str, tensor: Tensor, shape: Sequence[int | str], dtypes: Dtypes) -> str:
    """Return the message of :func:`check_column`."""
    lengths = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    return (
        f"{name}: expected {dtypes.names} of shape ({lengths}), "
        f"got {tensor.dtype} of {tuple(tensor.shape)}"
    )


def check_device(name: str, tensor: Tensor, device: torch.device, of: str) -> None:
    """Raise ValueError unless a tensor is on the device of another argument, named ``of``."""
    if tensor.device != device:
        raise ValueError(f"{name}: expected device {device} as {of}, got {tensor.device}")


def is_number(value: object) -> bool:
    """Tell whether the value is a real number of Python, of numpy or of a graph. Bools are none."""
    return isinstance(value, NUMBERS) and not isinstance(value, bool)


def check_count(name: str, value: object) -> None:
    """Raise ValueError unless the value is an integer of at least 1."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise ValueError(f"{name}: expected an integer >= 1, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected an integer >= 1, got {value}")


def is_common(tensor: Tensor, dtype: torch.dtype, ndim: int) -> bool:
    """Tell whether a tensor lies on the CPU, has no gradient, and has this dtype and dimension.

    An array of numpy can share the memory of such a tensor.
    """
    return (
        type(tensor) is Tensor
        and tensor.is_cpu
        and tensor.dtype == dtype
        and tensor.ndim == ndim
        and not tensor.requires_grad
    )


def plain(tensor: Tensor) -> Tensor:
    """Return the tensor as one of torch's own class, without a gradient."""
    tensor = tensor.detach()
    return tensor if type(tensor) is Tensor else tensor.as_subclass(Tensor)
