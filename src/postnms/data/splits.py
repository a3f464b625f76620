"""The splits of a run.

They come from a data folder, whose layout is recognised (:mod:`postnms.data.layouts`), or from the
built-in scenes if there is no folder.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from postnms.data.config import DataConfig
from postnms.data.dataset import Category, Dataset, Truth
from postnms.data.formats.coco import read_truth
from postnms.data.layouts import FoundData, FoundSplit, canonical, fitting_layouts, recognise
from postnms.data.loader import DetectionData
from postnms.data.resizing import InputSize
from postnms.data.scenes.generator import scenes_dataset
from postnms.data.shared import read_once
from postnms.data.transforms import AugmentationConfig
from postnms.errors import UserError, shown_name
from postnms.files.json_files import LIMITS, JsonLimits

logger = logging.getLogger(__name__)

TUNING = "tuning"
"""Name of the split of the training images that are set aside to choose settings on."""


@dataclass(frozen=True)
class Splits:
    """The data of a run. The validation split has the label map of the training split."""

    train: DetectionData
    """The training split. Its items ``(epoch, index)`` are augmented."""
    val: DetectionData
    """The validation split. It is never augmented."""
    folder: Path | None = None
    """The data folder. None: the data are the built-in scenes."""
    found: FoundData | None = None
    """What was found in the data folder. None: the data are the built-in scenes."""


def find_data(config: DataConfig, root: Path, seed: int = 0) -> FoundData:
    """Return what the data folder ``root`` holds.

    Splits whose files are named in ``config`` are those files, in COCO format. If one of train and
    val is not named, the others are recognised, as far as the folder has a known layout. ``seed``
    decides which images ``config.val_fraction`` and ``config.tuning_fraction`` set aside, if there
    are training images.

    Raises UserError if the folder is not recognised, or as :meth:`FoundData.set_aside` does.
    """
    named = _named_splits(config, root.parent if root.is_file() else root)
    if {"train", "val"} <= named.keys() or (named and root.is_dir() and not fitting_layouts(root)):
        found = FoundData("COCO", root, named)
    else:
        found = recognise(root)
        found = FoundData(found.kind, root, {**found.splits, **named}, found.notes, found.absent)
    for name, fraction in (("val", config.val_fraction), (TUNING, config.tuning_fraction)):
        # Other data than those of the training may have no training images.
        if fraction is not None and "train" in found.splits:
            found = found.set_aside(name, fraction, seed)
    return found


def open_splits(config: DataConfig, root: Path | None, size: InputSize, seed: int = 0) -> Splits:
    """Open both splits of the data folder ``root``, or of the built-in scenes if it is None.

    Args:
        config: the names of the files, and how they are read.
        root: the data folder, or a ``data.yaml``.
        size: limits of the image size in pixels, see :data:`InputSize`.
        seed: seed of the scenes and of the augmentation.

    Raises:
        UserError: a split is missing, has no image or no annotations, a file is not as it must be,
            or the validation split has a class that the training split lacks.

    Example:
        >>> from postnms.data.scenes.generator import ScenesConfig
        >>> config = DataConfig(scenes=ScenesConfig(train=3, val=2, size=96))
        >>> splits = open_splits(config, None, size=(96, 96))
        >>> len(splits.train), len(splits.val)
        (3, 2)
    """
    found = None if root is None else find_data(config, root, seed)
    dataset = _read_shared(config, found, "train", seed)
    val = open_split(config, found, "val", dataset.categories, size, seed)
    check_splits(dataset, val.dataset, config)
    return Splits(prepare_train(dataset, config, size, seed), val, root, found)


def check_splits(train: Dataset, val: Dataset, config: DataConfig) -> None:
    """Raise UserError unless a training split and a validation split can be trained with.

    Both have annotations and images, ``val`` has no class that ``train`` lacks, and ``config``
    leaves an image to train on. The image files are not looked at.
    """
    val.with_label_map(train.categories)
    for split in (train, val):
        if not split.annotated:
            raise UserError(f"{split.source}: annotations: expected some, got none")
        if not len(split.records):
            raise UserError(f"{split.source}: images: expected at least one, got none")
    _trained_on(train, config)


def open_split(
    config: DataConfig,
    found: FoundData | None,
    split: str,
    categories: tuple[Category, ...],
    size: InputSize,
    seed: int = 0,
) -> DetectionData:
    """Open a split without augmentation, with labels that are positions in ``categories``.

    Args:
        config: how the images are read.
        found: the data, see :func:`find_data`. None: the built-in scenes.
        split: its name: ``train``, ``val``, ``test`` or another one that the data have.
        categories: the classes, in the order of the labels.
        size: limits of the image size in pixels, see :data:`InputSize`.
        seed: seed of the scenes.

    Raises:
        UserError: there is no such split, a file is not as it must be, or the split has a class
            that is not one of ``categories``.
    """
    dataset = _read_shared(config, found, split, seed).with_label_map(categories)
    return prepare(dataset, config, size, None, seed)


def open_val(
    config: DataConfig,
    root: Path | None,
    categories: tuple[Category, ...],
    size: InputSize,
    seed: int = 0,
) -> DetectionData:
    """Open the validation split of the data folder ``root``, see :func:`open_split`."""
    found = None if root is None else find_data(config, root, seed)
    return open_split(config, found, "val", categories, size, seed)


def open_dataset(config: DataConfig, root: Path | None, split: str, seed: int = 0) -> Dataset:
    """Read a split of the data folder ``root``, or of the built-in scenes if it is None.

    Raises UserError as :func:`read_split` does.
    """
    found = None if root is None else find_data(config, root, seed)
    return read_split(config, found, split, seed)


def find_truth(
    data: Path,
    split: str | None = None,
    config: DataConfig | None = None,
    seed: int = 0,
    limits: JsonLimits = LIMITS,
) -> Truth:
    """Return annotations without their images.

    Args:
        data: a COCO annotation file, a data folder, or its ``data.yaml``.
        split: name of the split in the folder. None: ``val``. An annotation file has no splits, so
            it must be None there.
        config: how the folder is read. None: its layout is recognised.
        seed: decides which images ``config`` sets aside.
        limits: the largest size of an annotation file.

    Raises:
        UserError: as :func:`find_data` and :meth:`FoundData.truth` do, and for a split of an
            annotation file.
    """
    if has_splits(data):
        return find_data(config or DataConfig(), data, seed).truth(split or "val")
    if split is not None and data.is_file():
        raise UserError(
            f"expected a data folder beside it, got {shown_name(split)} of the file {data}",
            argument="split",
        )
    return read_truth(data, limits)


def has_splits(data: Path) -> bool:
    """Return whether data are a folder or a ``data.yaml``, and not an annotation file."""
    return data.is_dir() or data.suffix in (".yaml", ".yml")


def read_split(config: DataConfig, found: FoundData | None, split: str, seed: int = 0) -> Dataset:
    """Read a split. If ``found`` is None, it is generated from ``config.scenes``.

    Raises UserError if that is None too, if there is no such split, or if a file is not as it must
    be.
    """
    if found is not None:
        return found.read(split)
    if config.scenes is None:
        raise UserError("the recipe has no built-in data; name a data folder", argument="data")
    if config.tuning_fraction is not None:
        raise UserError(
            "data.tuning_fraction: expected a data folder; scenes of another --set seed=N are as "
            f"many new images as you like; got {config.tuning_fraction:g}"
        )
    if canonical(split) not in ("train", "val"):
        raise UserError(
            f"expected train or val, the splits of the built-in scenes, got {shown_name(split)}",
            argument="split",
        )
    return scenes_dataset(config.scenes, seed, canonical(split))


def _read_shared(config: DataConfig, found: FoundData | None, split: str, seed: int) -> Dataset:
    """Read a split as :func:`read_split` does, once for all processes of the machine.

    All processes must call this at the same point.
    """
    if found is None:
        return read_split(config, found, split, seed)
    return read_once(partial(found.read, split))


def _named_splits(config: DataConfig, root: Path) -> Mapping[str, FoundSplit]:
    """Return the splits whose files are named in the settings."""
    names = {
        "train": (config.train_annotations, config.train_images),
        "val": (config.val_annotations, config.val_images),
    }
    splits = {}
    for split, (annotations, images) in names.items():
        if annotations is not None or images is not None:
            file = root / (annotations or f"instances_{split}.json")
            splits[split] = FoundSplit(
                split, partial(read_truth, file), root / (images or "images")
            )
    return splits


def prepare_train(
    dataset: Dataset, config: DataConfig, size: InputSize, seed: int
) -> DetectionData:
    """Return the samples of a training split: those of :func:`prepare` that are trained on.

    Raises UserError if images without objects are left out, and no other is there.
    """
    images = len(dataset.records)
    dataset = _trained_on(dataset, config)
    if left_out := images - len(dataset.records):
        logger.info("%s: %d images without objects are left out", dataset.source, left_out)
    return prepare(dataset, config, size, config.augmentation, seed)


def _trained_on(dataset: Dataset, config: DataConfig) -> Dataset:
    """Return a training split without the images that ``config`` leaves out.

    Raises UserError if no image is left of them.
    """
    if config.images_without_objects:
        return dataset
    images = len(dataset.records)
    dataset = dataset.with_objects()
    if not len(dataset.records):
        raise UserError(
            f"{dataset.source}: expected an image with an object, got {images} without; "
            "data.images_without_objects=true trains on these too"
        )
    return dataset


def prepare(
    dataset: Dataset,
    config: DataConfig,
    size: InputSize,
    augmentation: AugmentationConfig | None,
    seed: int,
) -> DetectionData:
    """Return the samples of a split, read as ``config`` says.

    They are resized to the limits ``size``, and changed at random if there is an ``augmentation``.
    """
    return DetectionData(
        dataset,
        *size,
        augmentation,
        cache=config.cache,
        seed=seed,
        max_pixels=config.max_pixels,
        workers=config.workers,
    )
