"""The truth that a file of candidates is measured against."""

import dataclasses
from pathlib import Path

from postnms.candidate_files.reader import CandidateFile
from postnms.data.config import DataConfig
from postnms.data.dataset import Truth
from postnms.data.formats.coco import read_truth
from postnms.data.splits import find_truth, has_splits, open_dataset
from postnms.errors import UserError, shown, shown_name


def open_truth(file: CandidateFile, data: Path | None, split: str | None = None) -> Truth:
    """Return the annotations of the images that the candidates come from.

    Args:
        file: the candidates.
        data: a COCO annotation file, a data folder, or its ``data.yaml``. None: the built-in
            scenes.
        split: name of the split in the folder. None: that which the candidates were dumped from,
            ``val`` if the file does not say it. An annotation file has no splits.

    Returns:
        The truth. Its classes are those of the candidates, which may be more than the annotations
        have.

    Raises:
        UserError: the annotations are those of other images or classes, or there are none.
    """
    truth = open_images(file, data, split)
    if not truth.annotated:
        raise UserError(f"{truth.source}: annotations: expected some, got none")
    return truth


def open_images(file: CandidateFile, data: Path | None, split: str | None = None) -> Truth:
    """Return what :func:`open_truth` does, but for a split without annotations too.

    Such a truth lists the images of a test split, and has no objects.
    """
    truth = _built_in(file, split) if data is None else _in_data(file, data, split)
    used = {entry["category_id"] for entry in truth.annotations}
    counted = [c for c in truth.categories if c in file.categories or c.id in used]
    truth = dataclasses.replace(truth, categories=tuple(counted))
    truth = truth.with_categories(file.categories)
    annotated = {entry["id"] for entry in truth.images}
    dumped = set(file.image_ids)
    if annotated != dumped:
        counts = (
            f"{len(dumped - annotated)} that are not in {truth.source}, "
            f"which has {len(annotated - dumped)} more"
        )
        raise UserError(f"{file.path}: expected the images of the annotations, got {counts}")
    return truth


def _in_data(file: CandidateFile, data: Path, split: str | None) -> Truth:
    """Read the annotations in a file or folder."""
    # Those of Pascal VOC and Hugging Face have a name too, but the folder tells how to read them.
    named = data / (file.annotations or "")
    if split is None and data.is_dir() and named.suffix.lower() == ".json" and named.is_file():
        return read_truth(named)
    if not has_splits(data):
        return find_truth(data, split)
    split = file.provenance.get("split") if split is None else split
    config, seed = DataConfig(), 0
    if isinstance(file.provenance.get("recipe"), dict):
        config, seed = _settings(file)
    return find_truth(data, split if isinstance(split, str) else None, config, seed)


def _built_in(file: CandidateFile, split: str | None) -> Truth:
    """Make the scenes again that a run without a data folder was dumped from."""
    if file.annotations is not None or "recipe" not in file.provenance:
        named = f" ({shown_name(file.annotations)})" if file.annotations else ""
        raise UserError(
            f"{file.path} needs the annotations of its images{named}: name their file or folder",
            argument="data",
        )
    config, seed = _settings(file)
    name = split or file.provenance.get("split", "val")
    if name not in ("train", "val"):
        raise UserError(f"{file.path}: split: expected train or val, got {shown(name)}")
    # The scenes are made one by one, so their number is compared before that work begins.
    if config.scenes is not None and getattr(config.scenes, name) != len(file):
        raise UserError(
            f"{file.path}: recipe.data.scenes.{name}: expected {len(file)}, the number of images "
            f"of the file, got {getattr(config.scenes, name)}"
        )
    return open_dataset(config, None, name, seed).truth


def _settings(file: CandidateFile) -> tuple[DataConfig, int]:
    """Return how the data of the run were read, and its seed."""
    recipe = file.provenance["recipe"]
    if not isinstance(recipe, dict):
        raise UserError(f"{file.path}: recipe: expected an object, got {shown(recipe)}")
    config = DataConfig.parse(recipe.get("data", {}), f"{file.path}: recipe.data")
    seed = recipe.get("seed")
    if type(seed) is not int or seed < 0:
        raise UserError(f"{file.path}: recipe.seed: expected an integer >= 0, got {shown(seed)}")
    return config, seed
