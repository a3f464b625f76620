"""The sources of a report, opened from the paths that a user names."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from postnms.analysis.reports import COMPARED
from postnms.candidate_files.reader import CandidateFile, open_candidates
from postnms.candidate_files.replays import as_columns, replay
from postnms.candidate_files.truth import open_truth
from postnms.data.config import DataConfig
from postnms.data.dataset import Dataset, Truth
from postnms.data.formats.coco import add_images
from postnms.data.layouts import FoundData, canonical
from postnms.data.loader import DetectionData
from postnms.data.splits import find_data, open_split, read_split
from postnms.detectors.output import ROW_TITLES
from postnms.errors import UserError, shown
from postnms.evaluation.columns import ResultColumns, read_results
from postnms.files.atomic import hash_of
from postnms.files.json_files import read_json
from postnms.files.tensor_files import load_tensors
from postnms.recipes import Recipe
from postnms.report.compared import find_candidates, read_comparison
from postnms.report.sources import Source, TrainedRun
from postnms.runs.folder import (
    MARKER,
    RunFolder,
    read_categories,
    read_data_folder,
    read_recipe,
)
from postnms.runs.measured import measured_name
from postnms.structures import NMS_ROW
from postnms.suppression import SUPPRESSORS

FACTS = {
    "split": "split",
    "command": "command",
    "commit": "commit",
    "seed": "seed",
    "machine": "machine",
    "data": "data",
    "version": "version of postnms",
    "torch": "version of torch",
}
"""Facts of a provenance that a report shows, and what it calls them."""


def open_source(path: Path, data: Path | None, split: str | None) -> Source:
    """Open a run, a file of candidates, or a folder that ``postnms compare`` has written.

    Args:
        path: the folder or the file.
        data: the data folder. None: that of the run, or the built-in scenes.
        split: name of the split. None: that of the dump, or ``val``.

    Raises:
        UserError: the path is none of the three, or a file is not as it must be.
    """
    if path.is_dir() and (path / MARKER.name).is_file():
        return _open_run(path, data, split)
    if path.is_dir() and (path / COMPARED.name).is_file():
        return _open_compared(path, data, split)
    if path.is_file():
        return _of_candidates(open_candidates(path), path.stem, data, split)
    came = "a folder without them" if path.is_dir() else "nothing"
    raise UserError(
        f"{path}: expected a run ({MARKER.name}), a folder of 'postnms compare' "
        f"({COMPARED.name}) or a file of candidates, got {came}"
    )


def _open_run(path: Path, data: Path | None, split: str | None) -> Source:
    folder = RunFolder(path)
    name = canonical(split or "val")
    recipe, own = read_recipe(folder), read_json(folder.provenance)
    notes = []
    finished = folder.weights.is_file()
    root = read_data_folder(folder) if data is None else data
    opened = _open_split(folder, recipe, root, name)
    measured = measured_name(folder, name, root, opened.dataset.truth)
    if not finished:
        notes.append(_half_trained(folder, path.name, recipe))
    elif folder.evaluation_of(measured).is_file():
        # The results are of its settings, which may name other files of the data.
        recipe = _evaluated_recipe(folder.evaluation_of(measured))
        opened = _open_split(folder, recipe, root, name)
    truth = opened.dataset.truth
    if not truth.annotated:
        raise UserError(f"{truth.source}: annotations: expected some, got none")
    files = {row: folder.results(row, measured) for row in ROW_TITLES}
    # Results of a run that is not finished may be of an earlier checkpoint than the newest one.
    results = {
        row: _read_results(file, truth)
        for row, file in files.items()
        if finished and file.is_file()
    }
    if recipe.stage is None:
        notes.append(f"{path.name} has no stage.")
    facts = {**_facts(own), "recipe": recipe.name, "split": name}
    if root is not None:
        facts["data"] = root.name
    return Source(
        name=path.name,
        weights=hash_of(folder.newest_weights) if folder.newest_weights.is_file() else None,
        truth=truth,
        dataset=opened.dataset,
        results=results,
        run=TrainedRun(folder, recipe, opened),
        facts=facts,
        notes=tuple(notes),
    )


def _open_split(folder: RunFolder, recipe: Recipe, root: Path | None, name: str) -> DetectionData:
    found = None if root is None else find_data(recipe.data, root, recipe.seed)
    size = recipe.detector.input_size
    return open_split(recipe.data, found, name, read_categories(folder), size, recipe.seed)


def _half_trained(folder: RunFolder, name: str, recipe: Recipe) -> str:
    """Return the note on a run that is still trained. Raise UserError without a checkpoint."""
    if not folder.checkpoint.is_file():
        raise UserError(
            f"{folder.root}: expected weights or a checkpoint of a run, got neither; "
            "the training has not come to its first checkpoint"
        )
    finished = load_tensors(folder.checkpoint)[1].get("finished")
    return (
        f"The training of {name} has not ended: this is its checkpoint after {finished} of "
        f"{recipe.training.iterations} iterations."
    )


def _evaluated_recipe(file: Path) -> Recipe:
    """Return the recipe of the evaluation that has written the results."""
    about = read_json(file)
    content = about.get("recipe") if isinstance(about, dict) else None
    if not isinstance(content, dict):
        raise UserError(f"{file}: recipe: expected an object, got {shown(content)}")
    return Recipe.parse(content, str(file))


def _read_results(file: Path, truth: Truth) -> ResultColumns:
    content = read_json(file)
    if not isinstance(content, list):
        raise UserError(f"{file}: expected a list of results, got {type(content).__name__}")
    try:
        return read_results(truth, content)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file}: expected results of {truth.source}, got others ({error}); "
            "run 'postnms eval' again"
        ) from error


def _of_candidates(file: CandidateFile, name: str, data: Path | None, split: str | None) -> Source:
    """Return the source that a file of candidates is."""
    truth = open_truth(file, data, split)
    results = {row: as_columns(file.row(row), file, truth) for row in file.rows}
    if NMS_ROW not in results:
        replayed = replay(file, SUPPRESSORS[NMS_ROW])
        results = {NMS_ROW: as_columns(replayed.detections, file, truth), **results}
    weights = file.provenance.get("weights_sha256")
    return Source(
        name=name,
        weights=weights if isinstance(weights, str) else None,
        truth=truth,
        dataset=_images_of(file, truth, data, split),
        results=results,
        candidates=file,
        facts=_facts(file.provenance),
    )


def _images_of(
    file: CandidateFile, truth: Truth, data: Path | None, split: str | None
) -> Dataset | None:
    """Return the images that belong to a truth. None: it is not known where they are."""
    settings: Any = file.provenance.get("recipe")
    has_recipe = isinstance(settings, dict)
    config = DataConfig.parse(settings.get("data", {}), "data") if has_recipe else DataConfig()
    seed = settings.get("seed", 0) if has_recipe else 0
    name = str(split or file.provenance.get("split") or "val")
    if data is None:
        return read_split(config, None, name, seed)
    if not data.is_file() or data.suffix in (".yaml", ".yml"):
        found: FoundData = find_data(config, data, seed)
        return found.read(name) if canonical(name) in found.splits else None
    folder = data.parent / "images"
    try:
        return add_images(truth, folder if folder.is_dir() else data.parent)
    except UserError:  # The annotations may have neither file names nor sizes.
        return None


def _open_compared(path: Path, data: Path | None, split: str | None) -> Source:
    comparison = read_comparison(path)
    file = find_candidates(path, comparison)
    name = path.name
    if file is not None:
        source = _of_candidates(file, name, data, split)
        return replace(source, lines=comparison.lines, facts=_facts(comparison.candidates))
    weights, digest = (
        comparison.candidates.get(key) for key in ("weights_sha256", "annotations_sha256")
    )
    return Source(
        name=name,
        weights=weights if isinstance(weights, str) else None,
        lines=comparison.lines,
        facts=_facts(comparison.candidates),
        digest=digest if isinstance(digest, str) else None,
        notes=(
            f"{name}: the candidates of the comparison are neither in the folder nor beside it, "
            "so that its rows have figures alone; name their file or their run, too.",
        ),
    )


def _facts(provenance: Any) -> Mapping[str, str]:
    """Return the facts of a provenance that a report shows."""
    if not isinstance(provenance, dict):
        return {}
    return {
        title: str(provenance[name])
        for name, title in FACTS.items()
        if provenance.get(name) is not None
    }
