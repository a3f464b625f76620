"""Reading state dicts that others wrote, and loading one that must fit; no file's code is ever run."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from postnms.errors import UserError


def read_state_dict(path: Path, argument: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of one of ``torch.save``. ``argument``: what the user gave the path as.

    Raises UserError, which names the argument, if there is no such file or it holds anything but named tensors.
    """
    if not path.is_file():
        raise UserError(f"{argument}: expected a file, got {str(path)!r}")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _load_tensors_only(path)
    except (
        UnpicklingError,
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
            f"; it holds {', '.join(map(str, list(state)[:5]))}" if isinstance(state, dict) else ""
        )
        raise UserError(f"{argument}: {path} is not a plain state dict{inside}")
    return state


def load_weights(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict that must fit exactly; else a UserError with the first mismatches by name.

    Names of older versions are taken where the modules themselves know them.
    """
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        wanted = module.state_dict()
        problems = [f"{name} is missing" for name in wanted if name not in state]
        counters = (
            "num_batches_tracked"  # of batch norm: left out by the modules where they have none
        )
        problems += [
            f"{name} is not in the model"
            for name in state
            if name not in wanted and counters not in name
        ]
        problems += [
            f"{name} has shape {tuple(state[name].shape)}, expected {tuple(wanted[name].shape)}"
            for name in wanted
            if name in state and state[name].shape != wanted[name].shape
        ]
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(
            f"{source}: the weights do not fit the model: {'; '.join(problems[:3])}{more}"
        ) from error


def _load_tensors_only(path: Path) -> object:
    """The content of a file of ``torch.save``; anything in it that would run code is an UnpicklingError."""
    return torch.load(path, map_location="cpu", weights_only=True)
