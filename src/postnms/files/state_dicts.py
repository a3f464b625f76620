"""Reading of state dicts that other programs wrote, and loading of weights that must fit exactly.

Files are read without running any code that they contain.
"""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.serialization import safe_globals

from postnms.errors import UserError, shown_name

NESTED = ("model", "state_dict", "model_state_dict", "ema", "model_ema", "ema_state_dict", "net")
"""Names under which checkpoints of other programs hold a state dict."""
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers of a model put before every name: ``DataParallel`` and the average of weights,
``torch.compile``, and the modules of training frameworks."""
AVERAGED = "n_averaged"
"""Name of the counter that torch's average of weights has beside the model."""


def read_state_dict(path: Path, argument: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name, on the CPU.

    A state dict may lie one level down under one of the names :data:`NESTED`, as in a checkpoint.
    Where every name begins with one of :data:`PREFIXES`, the names are returned without it.

    Args:
        path: a file with the suffix ``.safetensors``, or a file that ``torch.save`` wrote.
        argument: the name of the argument or setting with which the user gave the path.

    Raises:
        UserError: that names the argument, if there is no such file, or if it holds anything other
            than one state dict. The message says what the file holds.
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
    return _without_prefixes(_only_state_dict(state, f"{argument}: {path}"))


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
    # The training scripts of torchvision save their arguments too. A Namespace runs no code.
    with safe_globals([Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _only_state_dict(content: object, where: str) -> dict[str, Tensor]:
    """Return the one state dict in the content of a file."""
    if _is_state_dict(content):
        return dict(content)
    if not isinstance(content, dict):
        raise UserError(f"{where} is not a plain state dict; it holds a {type(content).__name__}")
    parts = {name: content.get(name) for name in NESTED}
    nested = [name for name, part in parts.items() if _is_state_dict(part) and part]
    if len(nested) == 1:
        return dict(content[nested[0]])
    if nested:
        raise UserError(
            f"{where} holds several state dicts: {', '.join(nested)}; save the one to use alone"
        )
    inside = ", ".join(
        f"{name} ({type(part).__name__})" for name, part in list(content.items())[:5]
    )
    raise UserError(
        f"{where} is not a plain state dict, and holds none as {', '.join(NESTED)}; "
        f"it holds {inside}{', ...' if len(content) > 5 else ''}"
    )


def _is_state_dict(content: object) -> TypeGuard[dict[str, Tensor]]:
    return isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the prefixes that all of its names have."""
    named = {name: value for name, value in state.items() if name != AVERAGED}
    for prefix in PREFIXES:
        if named and all(name.startswith(prefix) for name in named):
            return _without_prefixes({n.removeprefix(prefix): v for n, v in named.items()})
    return state
