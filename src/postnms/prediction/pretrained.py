"""A model in one folder: its recipe, its classes and its weights, local or on the hub.

The folder has the form of a run folder.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

from postnms.data.dataset import Category
from postnms.detectors import Detector
from postnms.errors import UserError
from postnms.evaluation.results import BestF1, Evaluation
from postnms.files.atomic import write_json
from postnms.files.folders import Marker, own_folder
from postnms.files.tensor_files import save_tensors
from postnms.recipes import Recipe
from postnms.runs.checkpoints import model_state
from postnms.runs.folder import RunFolder, labels_of

PRETRAINED = Marker("pretrained.json", ("library", "version"))
"""The file that marks the folder of a saved model. A run, which holds more, has none."""


def write_pretrained(
    root: Path,
    detector: Detector,
    categories: Sequence[Category],
    recipe: Recipe | None,
    best_f1: Mapping[str, BestF1 | None],
) -> None:
    """Write a model to a folder, see :meth:`postnms.Model.save_pretrained`."""
    if recipe is None:
        raise UserError(
            "model: has no recipe to save, which says how its detector is built; "
            "give Model(..., recipe=...) the recipe"
        )
    folder = RunFolder(root)
    with own_folder(root, "a folder of 'save_pretrained'", PRETRAINED):
        # The marker comes first, so that a folder that is half written can be written again.
        write_json(root / PRETRAINED.name, {"library": "postnms", "version": version("postnms")})
        write_json(folder.recipe, recipe.model_dump(mode="json"))
        write_json(folder.labels, labels_of(categories))
        save_tensors(folder.weights, model_state(detector), {"recipe": recipe.name})
        write_json(folder.metrics, Evaluation({}, best_f1=best_f1).to_json())


def fetch_pretrained(
    name: str | PathLike[str], revision: str | None, download: Mapping[str, Any]
) -> Path:
    """Return the folder of a saved model, which is downloaded if the name is no folder's."""
    path = Path(name)
    if path.is_dir():
        return path
    if not isinstance(name, str) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(f"{name}: no such folder, and no name of a repository (owner/name)")
    try:
        import huggingface_hub
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ImportError as error:
        raise ImportError(
            f"{name}: no such folder; to download a repository of this name, "
            "install huggingface_hub: pip install postnms[hub]"
        ) from error
    files = ["recipe.json", "labels.json", "weights.safetensors", "metrics.json"]
    try:
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=files, **download
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        about = " ".join(str(error).split())
        raise UserError(
            f"{name}: no such folder, and the repository could not be downloaded ({about:.200})"
        ) from error
