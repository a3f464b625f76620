"""The detector of a run: built as its recipe says, with trained or with initial weights."""

from pathlib import Path

import torch

from postnms.data.dataset import Category
from postnms.detectors import Detector, build_detector
from postnms.errors import UserError
from postnms.files.state_dicts import load_weights
from postnms.recipes import Recipe
from postnms.runs.checkpoints import read_newest_weights, read_weights
from postnms.runs.folder import RunFolder, read_categories, read_recipe


def load_detector(
    folder: RunFolder, recipe: Recipe | None = None, device: torch.device | str = "cpu"
) -> Detector:
    """Return the trained detector of a run in evaluation mode.

    It has the final weights of the run, or those of the last checkpoint while the run lasts.
    ``recipe`` is that of the run with changes that need no other weights, for example of
    ``stage.fusion``. None: as it was trained. Raises UserError if the weights do not fit.
    """
    recipe = without_weights(read_recipe(folder) if recipe is None else recipe)
    detector = build_run_detector(recipe, len(read_categories(folder)))
    weights, source = read_newest_weights(folder)
    load_weights(detector, weights, str(source))
    return detector.eval().to(device)


def start_from(detector: Detector, where: Path, categories: tuple[Category, ...]) -> None:
    """Load initial weights from a run or from a plain state dict into a detector.

    ``where`` is the folder of a run, its weights, its checkpoint, or a state-dict file of the
    network alone. The weights of the network must fit exactly. The stage takes over the weights of
    the run's stage if both have one, else it keeps its random ones. Raises UserError with the
    first mismatches by name, and if the run was trained on other classes.
    """
    folder = RunFolder(where if where.is_dir() else where.parent)
    has_labels = where.is_dir() or folder.labels.is_file()
    if has_labels and read_categories(folder) != categories:
        raise UserError(
            f"{folder.labels}: the run was trained on other classes than those of the data"
        )
    source = folder.newest_weights if where.is_dir() else where
    network, stage = read_weights(source)
    load_weights(detector.get_submodule("network"), network, str(source))
    if stage and detector.stage is not None:
        load_weights(detector.stage, stage, f"{source}: stage")


def build_run_detector(recipe: Recipe, num_classes: int) -> Detector:
    """Build the detector of a recipe with random heads, in the memory layout that it says."""
    frozen = recipe.training.freeze == "detector"
    detector = build_detector(recipe.detector, recipe.stage, num_classes, frozen=frozen)
    layout = torch.channels_last if recipe.training.channels_last else torch.contiguous_format
    return detector.to(memory_format=layout)  # pyright: ignore[reportCallIssue]


def without_weights(recipe: Recipe) -> Recipe:
    """Return the recipe without initial weights, for a detector that gets trained ones."""
    return recipe.model_copy(update={"detector": recipe.detector.without_weights()})
