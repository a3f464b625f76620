"""The detector of a run: built as its recipe says, with trained or with initial weights."""

import logging
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor, nn

from postnms.data.dataset import Category
from postnms.detectors import Detector, build_detector
from postnms.detectors.parts.frame import FramedNetwork
from postnms.distributed.collectives import is_first_process
from postnms.errors import UserError, shown
from postnms.files.fitting_weights import load_fitting_weights
from postnms.files.state_dicts import load_weights
from postnms.recipes import Recipe
from postnms.rivals import CandidateHeads
from postnms.runs.checkpoints import read_newest_weights, read_weights
from postnms.runs.folder import RunFolder, read_categories, read_recipe

logger = logging.getLogger(__name__)


def load_detector(
    folder: RunFolder, recipe: Recipe | None = None, device: torch.device | str = "cpu"
) -> Detector:
    """Return the trained detector of a run in evaluation mode.

    It has the final weights of the run, or those of the last checkpoint while the run lasts.
    ``recipe`` is that of the run with changes that need no other weights, for example of
    ``stage.fusion``. None: as it was trained. Raises UserError if the weights do not fit.
    """
    num_classes = len(read_categories(folder))
    recipe = read_recipe(folder) if recipe is None else recipe
    detector = build_run_detector(without_weights(recipe, num_classes), num_classes)
    weights, source = read_newest_weights(folder)
    load_weights(detector, weights, str(source))
    return detector.eval().to(device)


def start_from(
    detector: Detector, where: Path, categories: Sequence[Category], *, exact: bool = False
) -> None:
    """Load initial weights from a run or from a plain state dict into a detector.

    If the weights are of other classes, the layers of the classes keep their random weights, and a
    warning is logged that names them. The classes of a run are compared by their names. Those of a
    state dict alone are not known, so only their number counts. All other layers of the network
    must fit. The stage takes over the weights of the run's stage if both have one, else it keeps
    its random ones. So does each of the heads, all but the layers of other classes.

    Args:
        detector: the detector, which is changed in place.
        where: the folder of a run, its weights, its checkpoint, or a state-dict file.
        categories: the classes of the detector, in the order of the labels.
        exact: weights of other classes are an error. So they are for a frozen detector.

    Raises:
        UserError: the weights cannot be read, or they do not fit. The message has the first
            mismatches by name.
    """
    folder = RunFolder(where if where.is_dir() else where.parent)
    has_labels = where.is_dir() or folder.labels.is_file()
    names = [category.name for category in categories]
    known = [category.name for category in read_categories(folder)] if has_labels else names
    others = known != names
    network = detector.get_submodule("network")
    # What is random would stay so in a frozen detector.
    exact = exact or detector.frozen
    if others and (exact or not isinstance(network, FramedNetwork)):
        refuse_classes(folder, known, names)
    source = folder.newest_weights if where.is_dir() else where
    weights, *further = read_weights(source)
    notes = []
    if isinstance(network, FramedNetwork) and not exact:
        layers, count = network.class_layers, network.classes.count
        notes.append(
            load_fitting_weights(
                network,
                weights,
                str(source),
                layers,
                count,
                renew=others,
                may_lack=network.added_layers,
            )
        )
    else:
        load_weights(network, weights, str(source))
    for name, tensors in zip(("stage", "heads"), further, strict=True):
        part: nn.Module | None = getattr(detector, name)
        if tensors and part is None:
            notes.append(f"unused: the {name} ({len(tensors)} tensors)")
        elif tensors and isinstance(part, CandidateHeads):
            notes.append(_start_heads(part, tensors, f"{source}: heads", len(names), renew=others))
        elif tensors and part is not None:
            load_weights(part, tensors, f"{source}: {name}")
    if any(notes) and is_first_process():
        logger.warning("%s: %s", source, "; ".join(filter(None, notes)))


def refuse_classes(folder: RunFolder, run: Sequence[str], data: Sequence[str]) -> None:
    """Raise UserError if the classes of a run and those of data differ.

    ``run`` and ``data`` have the text that a class is known by, in the order of the labels.
    """
    for label, (there, here) in enumerate(zip_longest(run, data, fillvalue=None)):
        if there != here:
            known, came = ("missing" if text is None else shown(text) for text in (there, here))
            raise UserError(
                f"{folder.labels}: the run was trained on other classes than those of the data: "
                f"class {label} was {known} and is {came}"
            )


def _start_heads(
    heads: CandidateHeads,
    tensors: Mapping[str, Tensor],
    source: str,
    num_classes: int,
    *,
    renew: bool,
) -> str:
    """Load weights of heads into heads, and return what was not loaded, in a few words.

    A head that the weights do not have keeps its random weights.
    """
    new = [name for name in heads.columns if not any(t.startswith(f"{name}.") for t in tensors)]
    layers = {name.rpartition(".")[0] for name in heads.state_dict()}
    may_lack = sorted(layer for layer in layers if layer.partition(".")[0] in new)
    note = load_fitting_weights(
        heads, tensors, source, heads.class_layers, num_classes, renew=renew, may_lack=may_lack
    )
    return note and f"heads: {note}"


def build_run_detector(recipe: Recipe, num_classes: int) -> Detector:
    """Build the detector of a recipe with random heads, in the memory layout that it says."""
    freeze = recipe.training.freeze
    detector = build_detector(
        recipe.detector,
        recipe.stage,
        num_classes,
        heads=recipe.heads,
        suppressors=recipe.suppressors,
        frozen=freeze != "none",
        exact_weights=recipe.training.exact_weights,
    )
    if freeze == "detector_and_stage":
        detector.freeze(stage=True)
    layout = torch.channels_last if recipe.training.channels_last else torch.contiguous_format
    return detector.to(memory_format=layout)  # pyright: ignore[reportCallIssue]


def without_weights(recipe: Recipe, num_classes: int) -> Recipe:
    """Return the recipe without initial weights, for a detector that gets trained ones.

    ``num_classes`` is the number of classes of the detector.
    """
    detector = recipe.detector.without_weights(num_classes)
    return recipe.model_copy(update={"detector": detector})
