"""Checkpoints and weights: one safetensors file each, written under another name first; no pickle anywhere.

A checkpoint holds the model (``model.*``), the optimizer (``optimizer.*``), the state of the random generators of
every process (``rng.*``) and the number of finished iterations: enough to continue a run exactly.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from postnms.errors import UserError
from postnms.files.atomic import atomic_path
from postnms.files.state_dicts import load_weights, read_state_dict

FORMAT = "postnms-1"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able facts about them. A failure leaves an older file of that name as it was."""
    metadata = {"format": FORMAT, "about": json.dumps(about)}
    with atomic_path(path) as temporary:
        try:
            save_file(
                {name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata
            )
        except SafetensorError as error:  # wraps the operating system's error, for one a full disk
            raise OSError(str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote, onto the CPU. Raises UserError if the file is missing or foreign."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path}: expected format {FORMAT!r}, got {metadata.get('format')!r}")
    return tensors, json.loads(metadata["about"])


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict under ``model.``, as weights and checkpoints name it."""
    return {f"model.{name}": tensor for name, tensor in model.state_dict().items()}


def own_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo :func:`model_state`; what else a checkpoint holds is left out."""
    return _below("model.", tensors)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State dicts of a network and of its stage, the latter empty without one.

    From weights or a checkpoint of a run, or from a plain state dict, which is of a network alone.
    """
    if not _is_own(path):
        return read_state_dict(path, "training.start_from"), {}
    own = own_state(load_tensors(path)[0])
    return _below("network.", own), _below("stage.", own)


def training_state(
    model: nn.Module, optimizer: Optimizer, generators: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Everything that changes while training, as named tensors."""
    tensors = model_state(model)
    for index, slots in optimizer.state_dict()["state"].items():
        named = {name: torch.as_tensor(value) for name, value in slots.items() if value is not None}
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in named.items()}
    return tensors | {f"rng.{name}": state for name, state in generators.items()}


def restore_training_state(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizer: Optimizer, source: str
) -> dict[str, Tensor]:
    """Undo :func:`training_state`; returns the states of the random generators."""
    load_weights(model, own_state(tensors), source)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optimizer.", tensors).items():
        index, slot = name.split(".", 1)
        slots.setdefault(int(index), {})[slot] = tensor
    optimizer.load_state_dict(
        {"state": slots, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    return _below("rng.", tensors)


def _is_own(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
