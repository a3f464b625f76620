"""The truth that a file of candidates is measured against."""

import dataclasses
from pathlib import Path

from postnms.candidate_files.reader import CandidateFile
from postnms.data.dataset import Truth
from postnms.data.formats.coco import open_annotations
from postnms.data.splits import open_dataset
from postnms.errors import UserError
from postnms.recipes import Recipe


def open_truth(file: CandidateFile, data: Path | None) -> Truth:
    """The annotations of the images that candidates are of; ``data``: a file or folder, None: the built-in scenes.

    Classes may be fewer than those of the candidates. Raises UserError if they are of other images or classes, or if
    there are none.
    """
    truth = _built_in(file) if data is None else open_annotations(data, file.annotations)
    if not truth.annotated:
        raise UserError(f"{truth.source}: annotations: expected a list, got nothing")
    if strangers := [category for category in truth.categories if category not in file.categories]:
        named = ", ".join(f"{category.id} {category.name!r}" for category in strangers[:3])
        raise UserError(
            f"{truth.source}: categories: expected a subset of those of {file.path}, got also {named}"
        )
    images, own = {entry["id"] for entry in truth.content["images"]}, set(file.image_ids)
    if images != own:
        counts = f"{len(own - images)} that are not in {truth.source}, which has {len(images - own)} more"
        raise UserError(f"{file.path}: expected the images of the annotations, got {counts}")
    return dataclasses.replace(truth, categories=file.categories)


def _built_in(file: CandidateFile) -> Truth:
    if file.annotations is not None or "recipe" not in file.provenance:
        named = f" ({file.annotations})" if file.annotations else ""
        raise UserError(
            f"--data: {file.path} needs the annotations of its images{named}: name their file or folder"
        )
    recipe = Recipe.parse(file.provenance["recipe"], f"{file.path}: recipe")
    dataset = open_dataset(recipe, None, "val").with_label_map(file.categories)
    return Truth(dataset.categories, dataset.truth, dataset.source, dataset.annotated)
