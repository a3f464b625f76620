"""From a recipe and a data folder (or the built-in scenes) to the train and val splits, read as the recipe says."""

from dataclasses import dataclass
from pathlib import Path

from postnms.data.dataset import Category, CocoDataset
from postnms.data.formats.coco import read_coco
from postnms.data.loader import DetectionData
from postnms.data.scenes.generator import scenes_dataset
from postnms.data.transforms import AugmentationConfig
from postnms.errors import UserError
from postnms.recipes import Recipe


@dataclass(frozen=True)
class Splits:
    """The data of a run; val has the label map of train."""

    train: DetectionData
    val: DetectionData
    folder: Path | None = None
    """None: the recipe's built-in scenes."""


def open_splits(recipe: Recipe, root: Path | None) -> Splits:
    """Both splits of the data folder ``root``, or of the recipe's built-in scenes if it is None."""
    train = _prepared(recipe, open_dataset(recipe, root, "train"), recipe.data.augmentation)
    val = open_val(recipe, root, train.dataset.categories)
    for split in (train, val):
        if not split.dataset.annotated:
            raise UserError(f"{split.dataset.source}: annotations: expected a list, got nothing")
        if not len(split):
            raise UserError(f"{split.dataset.source}: images: expected at least one, got none")
    return Splits(train, val, root)


def open_val(recipe: Recipe, root: Path | None, categories: tuple[Category, ...]) -> DetectionData:
    """The val split, labelled by ``categories`` and not augmented."""
    dataset = open_dataset(recipe, root, "val").with_label_map(categories)
    return _prepared(recipe, dataset, None)


def open_dataset(recipe: Recipe, root: Path | None, split: str) -> CocoDataset:
    """``train`` or ``val`` as the recipe's data section names them."""
    data = recipe.data
    if root is None:
        if data.scenes is None:
            raise UserError(
                f"--data: recipe {recipe.name!r} has no built-in data; name a folder in COCO format"
            )
        return scenes_dataset(data.scenes, recipe.seed, split)
    annotations, images = {
        "train": (data.train_annotations, data.train_images),
        "val": (data.val_annotations, data.val_images),
    }[split]
    return read_coco(root / annotations, root / images)


def _prepared(
    recipe: Recipe, dataset: CocoDataset, augmentation: AugmentationConfig | None
) -> DetectionData:
    sizes = (recipe.detector.min_size, recipe.detector.max_size)
    return DetectionData(dataset, *sizes, augmentation, cache=recipe.data.cache, seed=recipe.seed)
