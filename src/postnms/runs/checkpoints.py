"""Checkpoints and weights of a run, each as one safetensors file.

A checkpoint holds all that is needed to continue a run exactly: the model (``model.*``), the
optimizer (``optimizer.*``), the states of the random generators of every process (``rng.*``), and
the number of finished iterations. Files of weights hold the model alone.

A file is written under another name and then renamed, so it is never half written. Pickle is not
used, so reading a file runs no code.
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
from postnms.files.json_files import parse_json
from postnms.files.state_dicts import load_weights, read_state_dict

FORMAT = "postnms-1"
"""Name of the format in the metadata of a file."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and the facts about them to a safetensors file.

    Args:
        path: the file. If writing fails, an older file of that name is left as it was.
        tensors: the tensors by name, on any device.
        about: facts that JSON can hold.

    Raises:
        UserError: the operating system refuses. The message names the file.
    """
    metadata = {"format": FORMAT, "about": json.dumps(about)}
    with atomic_path(path) as temporary:
        try:
            save_file(
                {name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata
            )
        except SafetensorError as error:
            # It wraps an error of the operating system, for example that the disk is full.
            raise OSError(str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that :func:`save_tensors` wrote.

    Returns:
        The tensors by name, on the CPU.
        The facts about them.

    Raises:
        UserError: the file is missing, or it has another format. The message names the file.
    """
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
    about = parse_json(metadata.get("about", "null"), f"{path}: about")
    if not isinstance(about, dict):
        raise UserError(f"{path}: about: expected an object, got {type(about).__name__}")
    return tensors, about


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a model with ``model.`` before each name, as files have it."""
    return {f"model.{name}": tensor for name, tensor in model.state_dict().items()}


def own_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict from the tensors of a file of weights or of a checkpoint.

    This undoes :func:`model_state`. The other tensors of a checkpoint are left out.
    """
    return _below("model.", tensors)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Read the weights of a network and of its stage.

    Args:
        path: the weights or a checkpoint of a run, or a file with the plain state dict of a
            detector or of a network alone.

    Returns:
        The state dict of the network.
        The state dict of the stage, which is empty if the file has no stage.

    Raises:
        UserError: the file is missing, or it does not hold a state dict.
    """
    if _is_own(path):
        own = own_state(load_tensors(path)[0])
    else:
        own = read_state_dict(path, "training.start_from")
        if not any(name.startswith("network.") for name in own):
            return own, {}
    return _below("network.", own), _below("stage.", own)


def training_state(
    model: nn.Module, optimizer: Optimizer, generators: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return everything that changes in a training run, as tensors by name.

    ``generators`` has the states of the random generators, by names that are free to choose.
    """
    tensors = model_state(model)
    # Torch numbers the parameters of an optimizer. "Slots" are its tensors for one parameter, for
    # example the momentum.
    for index, slots in optimizer.state_dict()["state"].items():
        named = {name: torch.as_tensor(value) for name, value in slots.items() if value is not None}
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in named.items()}
    return tensors | {f"rng.{name}": state for name, state in generators.items()}


def restore_training_state(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizer: Optimizer, source: str
) -> dict[str, Tensor]:
    """Put the tensors of :func:`training_state` back into the model and the optimizer.

    Args:
        tensors: the tensors of a checkpoint.
        model: the model, which is changed in place.
        optimizer: the optimizer, which is changed in place. It must have the same parameters in
            the same groups as the one that was saved.
        source: the name of the file, for messages.

    Returns:
        The states of the random generators, by the names that they were saved under.

    Raises:
        UserError: the weights do not fit the model. The message names ``source``.
    """
    load_weights(model, own_state(tensors), source)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optimizer.", tensors).items():
        index, slot = name.split(".", 1)
        slots.setdefault(int(index), {})[slot] = tensor
    # The settings of the groups follow from the recipe, so they are not part of a checkpoint.
    optimizer.load_state_dict(
        {"state": slots, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    return _below("rng.", tensors)


def _is_own(path: Path) -> bool:
    """Return whether :func:`save_tensors` wrote the file."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, by their names without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
