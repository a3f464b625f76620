"""The training and the validation split of a run.

They come from the data folder in COCO format, or from the built-in scenes if there is no folder.
"""

from dataclasses import dataclass
from pathlib import Path

from postnms.data.config import DataConfig
from postnms.data.dataset import Category, Dataset
from postnms.data.formats.coco import read_coco
from postnms.data.loader import DetectionData
from postnms.data.scenes.generator import scenes_dataset
from postnms.data.transforms import AugmentationConfig, InputSize
from postnms.errors import UserError


@dataclass(frozen=True)
class Splits:
    """The data of a run. The validation split has the label map of the training split."""

    train: DetectionData
    """The training split. Its items ``(epoch, index)`` are augmented."""
    val: DetectionData
    """The validation split. It is never augmented."""
    folder: Path | None = None
    """The data folder. None: the data are the built-in scenes."""


def open_splits(config: DataConfig, root: Path | None, size: InputSize, seed: int = 0) -> Splits:
    """Open both splits of the data folder ``root``, or of the built-in scenes if it is None.

    Args:
        config: the names of the files, and how they are read.
        root: the data folder.
        size: limits of the image size in pixels, see :data:`InputSize`.
        seed: seed of the scenes and of the augmentation.

    Raises:
        UserError: a split has no image or no annotations, a file is not as it must be, or the
            validation split has a class that the training split lacks.

    Example:
        >>> from postnms.data.scenes.generator import ScenesConfig
        >>> config = DataConfig(scenes=ScenesConfig(train=3, val=2, size=96))
        >>> splits = open_splits(config, None, size=(96, 96))
        >>> len(splits.train), len(splits.val)
        (3, 2)
    """
    dataset = open_dataset(config, root, "train", seed)
    train = _prepare(dataset, config, size, config.augmentation, seed)
    val = open_val(config, root, dataset.categories, size, seed)
    for split in (train, val):
        if not split.dataset.annotated:
            raise UserError(f"{split.dataset.source}: annotations: expected a list, got nothing")
        if not len(split):
            raise UserError(f"{split.dataset.source}: images: expected at least one, got none")
    return Splits(train, val, root)


def open_val(
    config: DataConfig,
    root: Path | None,
    categories: tuple[Category, ...],
    size: InputSize,
    seed: int = 0,
) -> DetectionData:
    """Open the validation split, without augmentation.

    Its labels are positions in ``categories``. Raises UserError unless ``categories`` has all
    classes of the split. The other arguments are those of :func:`open_splits`.
    """
    dataset = open_dataset(config, root, "val", seed).with_label_map(categories)
    return _prepare(dataset, config, size, None, seed)


def open_dataset(config: DataConfig, root: Path | None, split: str, seed: int = 0) -> Dataset:
    """Read the split ``train`` or ``val``, whose files are named in ``config``.

    If ``root`` is None, the split is generated from ``config.scenes``. Raises UserError if that is
    None too, or if a file is not as it must be.
    """
    if root is None:
        if config.scenes is None:
            raise UserError(
                "the recipe has no built-in data; name a folder in COCO format", argument="data"
            )
        return scenes_dataset(config.scenes, seed, split)
    annotations, images = {
        "train": (config.train_annotations, config.train_images),
        "val": (config.val_annotations, config.val_images),
    }[split]
    return read_coco(root / annotations, root / images)


def _prepare(
    dataset: Dataset,
    config: DataConfig,
    size: InputSize,
    augmentation: AugmentationConfig | None,
    seed: int,
) -> DetectionData:
    """Return the resized and, on request, augmented samples of a split."""
    return DetectionData(
        dataset,
        *size,
        augmentation,
        cache=config.cache,
        seed=seed,
        max_pixels=config.max_pixels,
    )
