"""The run folder: where a training run keeps its recipe, label map, provenance, logs, checkpoint and results."""

from pathlib import Path

import torch

from postnms.data.dataset import Category
from postnms.detectors import Detector, build_detector
from postnms.distributed.processes import this_process
from postnms.errors import UserError
from postnms.files.state_dicts import load_weights
from postnms.recipes import Recipe
from postnms.runs.checkpoints import load_tensors, own_state, read_weights
from postnms.runs.folder import RunFolder, read_categories, read_recipe


def load_detector(folder: RunFolder, recipe: Recipe | None = None) -> Detector:
    """The trained detector of a run in eval mode: its final weights, or its last checkpoint's.

    ``recipe``: the run's own with settings that need no other weights changed, for one ``stage.fusion``.
    """
    detector = build_run_detector(
        without_weights(recipe or read_recipe(folder)), len(read_categories(folder))
    )
    source = folder.newest_weights
    load_weights(detector, own_state(load_tensors(source)[0]), str(source))
    return detector.eval().to(this_process().device)


def start_from(detector: Detector, where: Path, categories: tuple[Category, ...]) -> None:
    """Give a detector the weights of a run (its folder, weights or checkpoint) or of a plain state dict of its network.

    The network's must fit exactly. The stage starts from those of the run if both have one, else from its random
    ones. Raises UserError, with the first mismatches by name; also if the run is of other classes than the data.
    """
    folder = RunFolder(where if where.is_dir() else where.parent)
    if (where.is_dir() or folder.labels.is_file()) and read_categories(folder) != categories:
        raise UserError(
            f"{folder.labels}: the run was trained on other classes than those of the data"
        )
    where = folder.newest_weights if where.is_dir() else where
    network, stage = read_weights(where)
    load_weights(detector.get_submodule("network"), network, str(where))
    if stage and detector.stage is not None:
        load_weights(detector.stage, stage, f"{where}: stage")


def build_run_detector(recipe: Recipe, num_classes: int) -> Detector:
    """The detector that a recipe describes, with random heads, laid out in memory as it says."""
    frozen = recipe.training.freeze == "detector"
    detector = build_detector(recipe.detector, recipe.stage, num_classes, frozen=frozen)
    layout = torch.channels_last if recipe.training.channels_last else torch.contiguous_format
    return detector.to(memory_format=layout)  # pyright: ignore[reportCallIssue]


def without_weights(recipe: Recipe) -> Recipe:
    """The recipe without initial weights, for a detector whose own are loaded next."""
    return recipe.model_copy(update={"detector": recipe.detector.without_weights()})
