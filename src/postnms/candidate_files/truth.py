"""The truth that a file of candidates is measured against."""

import dataclasses
from pathlib import Path

from postnms.candidate_files.reader import CandidateFile
from postnms.data.config import DataConfig
from postnms.data.dataset import Truth
from postnms.data.formats.coco import open_annotations
from postnms.data.splits import open_dataset
from postnms.errors import UserError, shown, shown_name


def open_truth(file: CandidateFile, data: Path | None) -> Truth:
    """Return the annotations of the images that the candidates come from.

    ``data`` is an annotation file or the folder with it. None: the built-in scenes. The
    annotations may have fewer classes than the candidates. Raises UserError if they are those of
    other images or classes, or if there are none.
    """
    truth = _built_in(file) if data is None else open_annotations(data, file.annotations)
    if not truth.annotated:
        raise UserError(f"{truth.source}: annotations: expected a list, got nothing")
    if strangers := [category for category in truth.categories if category not in file.categories]:
        named = ", ".join(f"{shown(c.id)} {shown(c.name)}" for c in strangers[:3])
        raise UserError(
            f"{truth.source}: categories: expected a subset of those of {file.path}, "
            f"got also {named}"
        )
    annotated = {entry["id"] for entry in truth.images}
    dumped = set(file.image_ids)
    if annotated != dumped:
        counts = (
            f"{len(dumped - annotated)} that are not in {truth.source}, "
            f"which has {len(annotated - dumped)} more"
        )
        raise UserError(f"{file.path}: expected the images of the annotations, got {counts}")
    return dataclasses.replace(truth, categories=file.categories)


def _built_in(file: CandidateFile) -> Truth:
    """Make the scenes again that a run without a data folder was dumped from."""
    if file.annotations is not None or "recipe" not in file.provenance:
        named = f" ({shown_name(file.annotations)})" if file.annotations else ""
        raise UserError(
            f"{file.path} needs the annotations of its images{named}: name their file or folder",
            argument="data",
        )
    recipe = file.provenance["recipe"]
    if not isinstance(recipe, dict):
        raise UserError(f"{file.path}: recipe: expected an object, got {shown(recipe)}")
    config = DataConfig.parse(recipe.get("data", {}), f"{file.path}: recipe.data")
    seed = recipe.get("seed")
    if type(seed) is not int or seed < 0:
        raise UserError(f"{file.path}: recipe.seed: expected an integer >= 0, got {shown(seed)}")
    # The scenes are made one by one, so their number is compared before that work begins.
    if config.scenes is not None and config.scenes.val != len(file):
        raise UserError(
            f"{file.path}: recipe.data.scenes.val: expected {len(file)}, the number of images of "
            f"the file, got {config.scenes.val}"
        )
    return open_dataset(config, None, "val", seed).truth
