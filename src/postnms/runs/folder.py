"""The files of a run folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postnms.data.dataset import Category
from postnms.errors import UserError
from postnms.evaluation.results import Results
from postnms.files.atomic import write_json
from postnms.recipes import Recipe
from postnms.runs.provenance import provenance


@dataclass(frozen=True)
class RunFolder:
    """Names of the files in a run folder."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The whole recipe, overrides included."""
        return self.root / "recipe.json"

    @property
    def labels(self) -> Path:
        """The label map: categories in the order of the labels."""
        return self.root / "labels.json"

    @property
    def provenance(self) -> Path:
        """Command, commit, version and seed."""
        return self.root / "provenance.json"

    @property
    def checkpoint(self) -> Path:
        """The state of training, to resume from."""
        return self.root / "checkpoint.safetensors"

    @property
    def weights(self) -> Path:
        """The trained detector."""
        return self.root / "weights.safetensors"

    @property
    def newest_weights(self) -> Path:
        """The file with the trained detector, or with its last checkpoint while it is trained."""
        return self.weights if self.weights.is_file() else self.checkpoint

    @property
    def log(self) -> Path:
        """One JSON object a line: losses and rates by iteration, metrics when evaluated."""
        return self.root / "log.jsonl"

    @property
    def metrics(self) -> Path:
        """Rows and gain of the last evaluation."""
        return self.root / "metrics.json"

    @property
    def evaluation(self) -> Path:
        """Where metrics come from that ``eval`` gave; those of the training itself are told by its provenance."""
        return self.root / "evaluation.json"

    def results(self, row: str) -> Path:
        """COCO results of one row."""
        return self.root / f"results_{row}.json"


def begin_run(
    folder: RunFolder,
    recipe: Recipe,
    categories: tuple[Category, ...],
    data: Path | None,
    *,
    resume: bool,
) -> None:
    """Write recipe, label map and provenance, and remove what an earlier run left; ``data``: its folder or built-in.

    A run that is resumed keeps what it has; its provenance also tells how it was resumed.
    """
    for half_written in folder.root.glob(".*.safetensors.*"):
        half_written.unlink()
    here = {
        **provenance(recipe.seed, data),
        "data_folder": None if data is None else str(data.resolve()),
    }
    if resume:
        before = _read(folder.provenance)
        write_json(folder.provenance, {**before, "resumed": [*before.get("resumed", []), here]})
        return
    old = [folder.checkpoint, folder.weights, folder.log, folder.metrics, folder.evaluation]
    for file in [*old, *folder.root.glob("results_*.json"), *folder.root.glob("pictures/*.png")]:
        file.unlink(missing_ok=True)
    write_json(folder.recipe, recipe.model_dump(mode="json"))
    write_json(
        folder.labels, [{"label": i, "id": c.id, "name": c.name} for i, c in enumerate(categories)]
    )
    write_json(folder.provenance, here)


def write_evaluation(folder: RunFolder, recipe: Recipe, data: Path | None) -> None:
    """Provenance and recipe of metrics that are not those of the training itself."""
    write_json(
        folder.evaluation,
        {**provenance(recipe.seed, data), "recipe": recipe.model_dump(mode="json")},
    )


def write_results(folder: RunFolder, metrics: Mapping[str, Any], results: Results) -> None:
    """One COCO results file a row in place of earlier ones, and ``metrics.json`` if there are metrics."""
    for row, entries in results.items():
        write_json(folder.results(row), entries, indent=None)
    for stale in set(folder.root.glob("results_*.json")) - {folder.results(row) for row in results}:
        stale.unlink()
    if metrics:
        write_json(folder.metrics, metrics)


def read_recipe(folder: RunFolder) -> Recipe:
    """The recipe of a run. Raises UserError if the folder is no run."""
    return Recipe.parse(_read(folder.recipe), str(folder.recipe))


def read_data_folder(folder: RunFolder) -> Path | None:
    """The data folder that a run was trained on; None if the data is built in."""
    where = _read(folder.provenance).get("data_folder")
    return None if where is None else Path(where)


def read_categories(folder: RunFolder) -> tuple[Category, ...]:
    """The label map of a run, in the order of the labels."""
    return tuple(Category(id=entry["id"], name=entry["name"]) for entry in _read(folder.labels))


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path.parent}: not a run folder (no {path.name})")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: malformed JSON ({error})") from error
