"""The truth that a file of candidates is measured against."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from postnms.candidate_files.reader import CandidateFile
from postnms.data.formats.coco import Truth, read_truth
from postnms.data.splits import open_dataset
from postnms.errors import UserError
from postnms.recipes import Recipe
from postnms.structures import Targets

DEFAULT_ANNOTATIONS = "instances_val.json"


def open_annotations(data: Path, name: str | None = None) -> Truth:
    """Annotations from a file, or from a folder that has them under ``name`` (default: instances_val.json)."""
    return read_truth(data / (name or DEFAULT_ANNOTATIONS) if data.is_dir() else data)


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
        raise UserError(f"{truth.source}: categories: expected a subset of those of {file.path}, got also {named}")
    images, own = {entry["id"] for entry in truth.content["images"]}, set(file.image_ids)
    if images != own:
        counts = f"{len(own - images)} that are not in {truth.source}, which has {len(images - own)} more"
        raise UserError(f"{file.path}: expected the images of the annotations, got {counts}")
    return dataclasses.replace(truth, categories=file.categories)


def targets_of(truth: Truth, image_ids: Sequence[int], by_image: dict[int, list[dict[str, Any]]]) -> Targets:
    """The objects of some images as a batch, in their original pixels; ``by_image``: of :func:`group_by_image`."""
    labels = {category.id: label for label, category in enumerate(truth.categories)}
    entries = [(place, entry) for place, number in enumerate(image_ids) for entry in by_image.get(number, [])]
    boxes = torch.tensor([entry["bbox"] for _, entry in entries], dtype=torch.float64).view(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Targets(
        boxes.float(),
        torch.tensor([labels[entry["category_id"]] for _, entry in entries], dtype=torch.int64),
        torch.tensor([place for place, _ in entries], dtype=torch.int64),
        torch.tensor([bool(entry["iscrowd"]) for _, entry in entries], dtype=torch.bool),
        len(image_ids),
    )


def group_by_image(truth: Truth) -> dict[int, list[dict[str, Any]]]:
    """Annotations by image id."""
    grouped: dict[int, list[dict[str, Any]]] = {}
    for entry in truth.content["annotations"]:
        grouped.setdefault(entry["image_id"], []).append(entry)
    return grouped


def _built_in(file: CandidateFile) -> Truth:
    if file.annotations is not None or "recipe" not in file.provenance:
        named = f" ({file.annotations})" if file.annotations else ""
        raise UserError(f"--data: {file.path} needs the annotations of its images{named}: name their file or folder")
    recipe = Recipe.parse(file.provenance["recipe"], f"{file.path}: recipe")
    dataset = open_dataset(recipe, None, "val").with_label_map(file.categories)
    return Truth(dataset.categories, dataset.truth, dataset.source, dataset.annotated)
