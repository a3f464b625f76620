"""The training of a recipe on data that a user holds in Python."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from postnms.config import Progress, no_progress
from postnms.data.sequences import ItemSequence, dataset_of
from postnms.data.splits import Splits, prepare, prepare_train
from postnms.errors import UserError
from postnms.evaluation.results import Evaluation
from postnms.prediction.model import Model
from postnms.recipes import RECIPES, Recipe, open_recipe, override
from postnms.runs.folder import RunFolder, read_recipe
from postnms.training.loop import train_splits


def train(
    recipe: str | PathLike[str] | Recipe,
    train_data: ItemSequence,
    val_data: ItemSequence,
    *,
    out: str | PathLike[str],
    classes: Sequence[str] | None = None,
    labels_from: int = 0,
    resume: bool = False,
    done: Progress = no_progress,
) -> tuple[Model, Evaluation]:
    """Train a detector on sequences of ``(image, target)``, as torchvision's references have them.

    An image is one of Pillow's, an array (H, W, 3) or a tensor (3, H, W), uint8 or float in [0, 1].
    A target is a dict with ``boxes`` (m, 4), xyxy in pixels, and ``labels`` (m,), and perhaps
    ``iscrowd`` and ``area`` (m,). Each item is read once before the training, for its boxes, and
    again whenever its image is needed, in ``data.workers`` processes. So it must be the same each
    time: random changes are those of ``data.augmentation`` in the recipe.

    Args:
        recipe: its name, a recipe, a YAML or JSON file with one, or the folder of a run.
        train_data: the images to train on: a list, a ``torch.utils.data.Dataset``, or anything with
            a length and an index.
        val_data: the images to evaluate on.
        out: folder of the run, which ``postnms.load`` reads: a new or an empty one.
        classes: names of the classes in the order of the labels. None: ``class 0``, ``class 1`` and
            so on, up to the largest label of ``train_data``.
        labels_from: the label of the first class. 0, or 1 for data made for those detectors of
            torchvision whose label 0 is the background.
        resume: go on with the run in ``out``, exactly as if it had not stopped.
        done: called with 1 for every item that is read before the training.

    Returns:
        The model, and its evaluation on ``val_data``.

    Raises:
        UserError: the recipe or an item has another form, or ``out`` holds a run (without
            ``resume``), holds other files, or has nothing to resume.
    """
    folder = RunFolder(Path(out))
    _check_folder(folder, resume)
    # Without built-in data, ``postnms eval`` asks for data rather than take others.
    settings = override(recipe_of(recipe), {"data.scenes": None})
    splits = _splits_of(settings, train_data, val_data, classes, labels_from, done)
    detector, evaluation = train_splits(settings, splits, folder, resume=resume)
    categories = splits.train.dataset.categories
    size = settings.detector.input_size
    return Model(detector, categories, input_size=size, recipe=settings), evaluation


def _splits_of(
    recipe: Recipe,
    train_data: ItemSequence,
    val_data: ItemSequence,
    classes: Sequence[str] | None,
    labels_from: int,
    done: Progress,
) -> Splits:
    first = dataset_of(train_data, "train_data", classes, labels_from, done)
    # The classes are those of the training data, whatever labels the others have.
    names = [category.name for category in first.categories]
    second = dataset_of(val_data, "val_data", names, labels_from, done)
    size, config, seed = recipe.detector.input_size, recipe.data, recipe.seed
    return Splits(
        prepare_train(first, config, size, seed), prepare(second, config, size, None, seed)
    )


def recipe_of(recipe: str | PathLike[str] | Recipe) -> Recipe:
    """Return a recipe by its name, from a file or from the folder of a run.

    Raises UserError if there is none.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES and Path(recipe).is_dir():
        return read_recipe(RunFolder(Path(recipe)))
    return open_recipe(str(recipe))


def _check_folder(folder: RunFolder, resume: bool) -> None:
    if not resume and folder.has_weights:
        raise UserError(
            "holds a run already; pass resume=True to go on with it, or name another folder, "
            f"got {folder.root}",
            argument="out",
        )
    if resume and not folder.has_checkpoint:
        raise UserError(f"expected a run to resume, got {folder.root}", argument="out")
