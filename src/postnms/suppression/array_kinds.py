"""Arrays of numpy and tensors of torch as one kind of input, and back.

n: rows of an array, K: different labels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any] | Tensor
"""An array of numpy, or a tensor of torch on any device."""


def numbered(labels: Any, count: int, device: torch.device) -> tuple[Tensor, Any]:
    """Return a number 0..K-1 for each row, equal for equal labels, and the labels themselves."""
    if labels is None:
        zeros = torch.zeros(count, dtype=torch.int64, device=device)
        return zeros, zeros
    if not is_torch(labels):
        names = np.asarray(labels)
        # numpy makes floats of an empty list.
        if names.shape != (count,) or (count and names.dtype.kind not in "iubUSO"):
            raise ValueError(
                f"labels: expected {count} integers or texts, got {names.dtype} of {names.shape}"
            )
        return torch.from_numpy(np.unique(names, return_inverse=True)[1]).to(device), names
    is_real = labels.is_floating_point() or labels.is_complex()
    if tuple(labels.shape) != (count,) or (count and is_real):
        raise ValueError(
            f"labels: expected {count} integers, got {labels.dtype} of {tuple(labels.shape)}"
        )
    return torch.unique(labels, return_inverse=True)[1].to(device), labels


def as_tensor(name: str, values: Any) -> Tensor:
    """Return an array as a tensor of its own dtype. Raise ValueError unless it holds numbers."""
    if is_torch(values):
        tensor = values.detach()
    else:
        array = _as_array(name, values)
        if array.dtype.kind not in "iufb" or array.dtype == np.longdouble:
            raise ValueError(f"{name}: expected real numbers, got {array.dtype}")
        # torch has no unsigned integers of 16 and more bits for all operations.
        wide = array.astype(np.int64) if array.dtype.kind == "u" else array
        # Nor has it tensors of another byte order, or ones that cannot be written to.
        if not wide.dtype.isnative:
            wide = wide.astype(wide.dtype.newbyteorder("="))
        tensor = torch.from_numpy(
            np.ascontiguousarray(wide) if wide.flags.writeable else wide.copy()
        )
    if tensor.is_complex() or tensor.layout != torch.strided:
        raise ValueError(f"{name}: expected real numbers, got {tensor.dtype} {tensor.layout}")
    return tensor


def as_floating(tensor: Tensor) -> Tensor:
    """Return a tensor in its dtype if that is floating, else in float32."""
    return tensor if tensor.is_floating_point() else tensor.float()


def kind_of(values: Any) -> Callable[[Tensor], Array]:
    """Return the function that turns a tensor into the kind of an input."""
    return (lambda tensor: tensor) if is_torch(values) else (lambda tensor: tensor.cpu().numpy())


def is_torch(values: Any) -> bool:
    """Return whether a value is a tensor of torch."""
    return isinstance(values, Tensor)


def is_floats(values: Any) -> bool:
    """Return whether a value is an array of numpy itself, of floats."""
    return type(values) is np.ndarray and values.dtype.kind == "f"


def counts_of(models: Sequence[Any]) -> list[int]:
    """Return the number of boxes of each model.

    Raises ValueError unless all models have the same columns, and those of a model are of one
    length.
    """
    widths = {len(model) if isinstance(model, tuple | list) else 0 for model in models}
    if len(widths) > 1 or not widths <= {2, 3}:
        raise ValueError("models: expected boxes and scores of each, and labels of all or of none")
    counts = []
    for number, model in enumerate(models):
        boxes, *others = map(_rows_of, model)
        if boxes is None or any(rows != boxes for rows in others):
            raise ValueError(
                f"models[{number}]: expected arrays of one length, got lengths "
                f"{', '.join(map(str, (boxes, *others)))}"
            )
        counts.append(boxes)
    return counts


def joined(parts: Sequence[Any]) -> Any:
    """Return arrays of one kind one after another."""
    if any(is_torch(part) for part in parts) and not all(is_torch(part) for part in parts):
        raise ValueError("models: expected arrays of one kind, got numpy and torch")
    # What is empty may have another shape and dtype, which must not change those of the others.
    filled = [part for part in parts if _rows_of(part)] or [parts[0]]
    try:
        if is_torch(parts[0]):
            return torch.cat(filled)
        return np.concatenate([np.asarray(part) for part in filled])
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"models: expected arrays that can be joined: {error}") from error


def _rows_of(values: Any) -> int | None:
    """Return the number of rows of an array, None if the value has no rows."""
    shape = getattr(values, "shape", None)
    if shape is None:
        return len(values) if isinstance(values, list | tuple) else None
    return shape[0] if len(shape) else None


def _as_array(name: str, values: Any) -> NDArray[Any]:
    """Return values as an array of numpy. Raise ValueError for rows of different lengths."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name}: expected rows of equal lengths, got others") from error
