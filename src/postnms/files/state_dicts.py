"""Reading of state dicts that other programs wrote, and loading of weights that must fit exactly.

Files are read without running any code that they contain.
"""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from postnms.errors import UserError, shown_name


def read_state_dict(path: Path, argument: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name, on the CPU.

    Args:
        path: a file with the suffix ``.safetensors``, or a file that ``torch.save`` wrote.
        argument: the name of the argument or setting with which the user gave the path.

    Raises:
        UserError: that names the argument, if there is no such file, or if it holds anything other
            than a dictionary of tensors.
    """
    if not path.is_file():
        raise UserError(f"{argument}: expected a file, got {str(path)!r}")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _load_tensors_only(path)
    except (
        UnpicklingError,
        OSError,
        RuntimeError,
        EOFError,
        SafetensorError,
        KeyError,
        IndexError,
        ValueError,
    ) as error:
        raise UserError(f"{argument}: {path} is not a plain state dict") from error
    if not isinstance(state, dict) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        inside = (
            f"; it holds {', '.join(shown_name(str(name)) for name in list(state)[:5])}"
            if isinstance(state, dict)
            else ""
        )
        raise UserError(f"{argument}: {path} is not a plain state dict{inside}")
    return state


def load_weights(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict into a module. It must fit exactly.

    Parameter names of older versions are accepted if a module converts them itself when it loads.

    Args:
        module: the module, which is changed in place.
        state: tensors by name.
        source: the name of the file or run that the tensors come from.

    Raises:
        UserError: that names ``source`` and the first three mismatches, if a tensor is missing, is
            not in the module, or has another shape.
    """
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        expected = module.state_dict()
        problems = [f"{name} is missing" for name in expected if name not in state]
        # Frozen batch norm ignores the counters of ordinary batch norm, so they are no mismatch.
        counters = "num_batches_tracked"
        problems += [
            f"{shown_name(name)} is not in the model"
            for name in state
            if name not in expected and counters not in name
        ]
        problems += [
            f"{name} has shape {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
            for name in expected
            if name in state and state[name].shape != expected[name].shape
        ]
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(
            f"{source}: the weights do not fit the model: {'; '.join(problems[:3])}{more}"
        ) from error


def _load_tensors_only(path: Path) -> object:
    """Return the content of a file that ``torch.save`` wrote.

    Raises:
        UnpicklingError: if the file holds anything that would run code.
    """
    return torch.load(path, map_location="cpu", weights_only=True)
