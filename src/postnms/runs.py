"""The run folder: where a training run keeps its recipe, label map, provenance, logs, checkpoint and results."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from postnms.checkpoints import load_tensors, load_weights
from postnms.data.coco import Category
from postnms.detectors import Detector, build_detector
from postnms.errors import UserError
from postnms.files import write_json
from postnms.recipes import Recipe


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
    def log(self) -> Path:
        """One JSON object a line: losses and rates by iteration, metrics when evaluated."""
        return self.root / "log.jsonl"

    @property
    def metrics(self) -> Path:
        """Rows and gain of the last evaluation."""
        return self.root / "metrics.json"

    def results(self, row: str) -> Path:
        """COCO results of one row."""
        return self.root / f"results_{row}.json"


def write_description(folder: RunFolder, recipe: Recipe, categories: tuple[Category, ...], data: str) -> None:
    """Recipe, label map and provenance, beside what the run will write."""
    write_json(folder.recipe, recipe.model_dump(mode="json"))
    write_json(folder.labels, [{"label": i, "id": c.id, "name": c.name} for i, c in enumerate(categories)])
    write_json(folder.provenance, provenance(recipe.seed, data))


def provenance(seed: int, data: str) -> dict[str, Any]:
    """Where a figure comes from. The commit is the package's own checkout's, null if it is not in one."""
    return {
        "command": " ".join(["postnms", *sys.argv[1:]]),
        "commit": _commit(),
        "version": version("postnms"),
        "torch": torch.__version__,
        "machine": _machine(),
        "seed": seed,
        "data": data,
    }


def read_recipe(folder: RunFolder) -> Recipe:
    """The recipe of a run. Raises UserError if the folder is no run."""
    return Recipe.parse(_read(folder.recipe), str(folder.recipe))


def read_categories(folder: RunFolder) -> tuple[Category, ...]:
    """The label map of a run, in the order of the labels."""
    return tuple(Category(id=entry["id"], name=entry["name"]) for entry in _read(folder.labels))


def load_detector(folder: RunFolder, recipe: Recipe | None = None) -> Detector:
    """The trained detector of a run in eval mode: its final weights, or its last checkpoint's.

    ``recipe``: the run's own with settings that need no other weights changed, for one ``stage.fusion``.
    """
    detector = build_run_detector(recipe or read_recipe(folder), len(read_categories(folder)))
    source = folder.weights if folder.weights.is_file() else folder.checkpoint
    tensors, _ = load_tensors(source)
    model = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    load_weights(detector, model, str(source))
    return detector.eval().to(PartialState().device)


def build_run_detector(recipe: Recipe, num_classes: int) -> Detector:
    """The detector that a recipe describes, with random heads."""
    return build_detector(recipe.detector, recipe.stage, num_classes)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path.parent}: not a run folder (no {path.name})")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: malformed JSON ({error})") from error


def _machine() -> str:
    gpu = f", {torch.cuda.device_count()} x {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores{gpu}"


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
