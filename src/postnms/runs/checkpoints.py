"""Checkpoints and weights of a run, each as one file of :mod:`postnms.files.tensor_files`.

A checkpoint holds all that is needed to continue a run exactly: the model (``model.*``), the
optimizer (``optimizer.*``), the moving average of the weights if the recipe asks for one
(``average.*``), the states of the random generators of every process (``rng.*``), and the number of
finished iterations. Files of weights hold the model alone.

Training keeps the last two checkpoints. If the newer one is damaged, the older one takes its place.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from postnms.errors import UserError
from postnms.files.state_dicts import load_weights, read_state_dict
from postnms.files.tensor_files import is_tensor_file, load_tensors
from postnms.runs.folder import RunFolder

logger = logging.getLogger(__name__)

AVERAGE = "average."
"""What comes before the names of the averaged weights in a checkpoint."""


Checkpoint = tuple[dict[str, Tensor], dict[str, Any], Path]
"""The tensors of a checkpoint by name, the facts about them, and the file that they are from."""


def read_checkpoint(folder: RunFolder) -> Checkpoint:
    """Read the last checkpoint of a run, or the one before it if the last one is damaged.

    A warning in the log says if the last one is damaged. Raises UserError that names the file if
    there is no checkpoint, or none that is whole.
    """
    try:
        return *load_tensors(folder.checkpoint), folder.checkpoint
    except UserError as error:
        if not folder.older_checkpoint.is_file():
            raise
        tensors, about = load_tensors(folder.older_checkpoint)
        finished = about.get("finished")
        logger.warning("%s; using the one before it, of iteration %s", error, finished)
        return tensors, about, folder.older_checkpoint


def read_newest_weights(folder: RunFolder) -> tuple[dict[str, Tensor], Path]:
    """Read the weights of a trained run, or those of its last checkpoint while it is trained.

    If the weights are damaged, those of the last checkpoint are used, if it was written at the end
    of the training. A warning in the log then says so.

    Returns:
        The state dict of the detector.
        The file that it is from.

    Raises:
        UserError: nothing is there, or nothing that is whole. The message names the file.
    """
    if not folder.weights.is_file():
        tensors, _, source = read_checkpoint(folder)
        return result_state(tensors), source
    try:
        return own_state(load_tensors(folder.weights)[0]), folder.weights
    except UserError as error:
        tensors, about, source = _last_checkpoint(folder, error)
        if about.get("finished") != about.get("iterations"):
            raise
        if about.get("final_weights") == "best":
            tensors, source = _best_weights(folder, error), folder.best
        logger.warning("%s; using %s, which has the same weights", error, source.name)
        return result_state(tensors), source


def _last_checkpoint(
    folder: RunFolder, damage: UserError
) -> tuple[dict[str, Tensor], dict[str, Any], Path]:
    """Read the last checkpoint. Raise ``damage`` if it is damaged too."""
    try:
        return *load_tensors(folder.checkpoint), folder.checkpoint
    except UserError:
        raise damage from None


def _best_weights(folder: RunFolder, damage: UserError) -> dict[str, Tensor]:
    """Read the best weights. Raise ``damage`` if they are damaged too."""
    try:
        return load_tensors(folder.best)[0]
    except UserError:
        raise damage from None


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a model with ``model.`` before each name, as files have it."""
    return {f"model.{name}": tensor for name, tensor in model.state_dict().items()}


def own_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict from the tensors of a file of weights or of a checkpoint.

    This undoes :func:`model_state`. The other tensors of a checkpoint are left out.
    """
    return _below("model.", tensors)


def result_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict that a run is evaluated with: the averaged one, if there is one."""
    return _below(f"{AVERAGE}module.", tensors) or own_state(tensors)


class DetectorWeights(NamedTuple):
    """The weights of the parts of a detector, a state dict each."""

    network: dict[str, Tensor]
    stage: dict[str, Tensor]
    """Empty without a stage."""
    heads: dict[str, Tensor]
    """Empty without heads."""


def read_weights(path: Path) -> DetectorWeights:
    """Read the weights of a network, of its stage and of its heads.

    Args:
        path: the weights or a checkpoint of a run, or a file with the plain state dict of a
            detector or of a network alone.

    Raises:
        UserError: the file is missing, or it does not hold a state dict.
    """
    if is_tensor_file(path):
        own = result_state(load_tensors(path)[0])
    else:
        own = read_state_dict(path, "training.start_from")
        if not any(name.startswith("network.") for name in own):
            return DetectorWeights(own, {}, {})
    return DetectorWeights(*(_below(f"{part}.", own) for part in DetectorWeights._fields))


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
        index, _, slot = name.partition(".")
        if not index.isdecimal() or not slot:
            raise UserError(f"{source}: optimizer.{name}: expected optimizer.NUMBER.NAME")
        slots.setdefault(int(index), {})[slot] = tensor
    # The settings of the groups follow from the recipe, so they are not part of a checkpoint.
    optimizer.load_state_dict(
        {"state": slots, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    return _below("rng.", tensors)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, by their names without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
