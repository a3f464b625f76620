"""The run folder: where a training run keeps its recipe, label map, provenance, logs, checkpoint and results."""

import json
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from postnms.data.formats.coco import Category
from postnms.detectors import Detector, build_detector
from postnms.distributed.processes import this_process
from postnms.errors import UserError
from postnms.files.atomic import write_json
from postnms.files.state_dicts import load_weights
from postnms.recipes import Recipe
from postnms.runs.checkpoints import load_tensors, own_state, read_weights


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
    folder: RunFolder, recipe: Recipe, categories: tuple[Category, ...], data: Path | None, *, resume: bool
) -> None:
    """Write recipe, label map and provenance, and remove what an earlier run left; ``data``: its folder or built-in.

    A run that is resumed keeps what it has; its provenance also tells how it was resumed.
    """
    for half_written in folder.root.glob(".*.safetensors.*"):
        half_written.unlink()
    here = {**provenance(recipe.seed, data), "data_folder": None if data is None else str(data.resolve())}
    if resume:
        before = _read(folder.provenance)
        write_json(folder.provenance, {**before, "resumed": [*before.get("resumed", []), here]})
        return
    old = [folder.checkpoint, folder.weights, folder.log, folder.metrics, folder.evaluation]
    for file in [*old, *folder.root.glob("results_*.json"), *folder.root.glob("pictures/*.png")]:
        file.unlink(missing_ok=True)
    write_json(folder.recipe, recipe.model_dump(mode="json"))
    write_json(folder.labels, [{"label": i, "id": c.id, "name": c.name} for i, c in enumerate(categories)])
    write_json(folder.provenance, here)


def write_evaluation(folder: RunFolder, recipe: Recipe, data: Path | None) -> None:
    """Provenance and recipe of metrics that are not those of the training itself."""
    write_json(folder.evaluation, {**provenance(recipe.seed, data), "recipe": recipe.model_dump(mode="json")})


def provenance(seed: int, data: Path | None) -> dict[str, Any]:
    """Where a figure comes from. The commit is the package's own checkout's, null if it is not in one."""
    return {
        "command": _command(),
        "processes": this_process().num_processes,
        "commit": _commit(),
        "version": version("postnms"),
        "torch": torch.__version__,
        "machine": _machine(),
        "seed": seed,
        "data": "built-in" if data is None else data.name,
    }


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


def load_detector(folder: RunFolder, recipe: Recipe | None = None) -> Detector:
    """The trained detector of a run in eval mode: its final weights, or its last checkpoint's.

    ``recipe``: the run's own with settings that need no other weights changed, for one ``stage.fusion``.
    """
    detector = build_run_detector(without_weights(recipe or read_recipe(folder)), len(read_categories(folder)))
    source = folder.newest_weights
    load_weights(detector, own_state(load_tensors(source)[0]), str(source))
    return detector.eval().to(this_process().device)


def start_from(detector: Detector, where: Path, categories: tuple[Category, ...]) -> None:
    """Give a detector the weights of a run (its folder, weights or checkpoint) or of a plain state dict of its network.

    The network's must fit exactly. The stage starts from those of the run if both have one, else from its random
    ones. Raises UserError, with the first mismatches by name; also if the run is of other classes than the data.
    """
    folder = RunFolder(where if where.is_dir() else where.parent)
    if (where.is_dir() or folder.labels.is_file()) and read_categories(folder) != categories:
        raise UserError(f"{folder.labels}: the run was trained on other classes than those of the data")
    where = folder.newest_weights if where.is_dir() else where
    network, stage = read_weights(where)
    load_weights(detector.get_submodule("network"), network, str(where))
    if stage and detector.stage is not None:
        load_weights(detector.stage, stage, f"{where}: stage")


def build_run_detector(recipe: Recipe, num_classes: int) -> Detector:
    """The detector that a recipe describes, with random heads, laid out in memory as it says."""
    frozen = recipe.training.freeze == "detector"
    detector = build_detector(recipe.detector, recipe.stage, num_classes, frozen=frozen)
    layout = torch.channels_last if recipe.training.channels_last else torch.contiguous_format
    return detector.to(memory_format=layout)  # pyright: ignore[reportCallIssue]


def without_weights(recipe: Recipe) -> Recipe:
    """The recipe without initial weights, for a detector whose own are loaded next."""
    return recipe.model_copy(update={"detector": recipe.detector.without_weights()})


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path.parent}: not a run folder (no {path.name})")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: malformed JSON ({error})") from error


def _command() -> str:
    program = Path(sys.argv[0])
    module = ["python", "-m", program.parent.name] if program.stem == "__main__" else None
    script = ["python", str(program)] if program.suffix == ".py" else [program.name]
    return shlex.join([*(module or script), *sys.argv[1:]])


def _machine() -> str:
    gpu = f", {torch.cuda.device_count()} x {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores{gpu}"


def _commit() -> str | None:
    git = ["git", "-C", str(Path(__file__).parent)]
    try:  # the package may also lie, untracked, in the checkout of something else
        subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True)
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
