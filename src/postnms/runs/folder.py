"""The files of a run folder: their names, and how they are written and read."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postnms.data.columns import Entries
from postnms.data.dataset import Category
from postnms.data.formats.fields import is_text
from postnms.detectors.output import ROW_TITLES
from postnms.errors import UserError, shown
from postnms.evaluation.columns import Results
from postnms.evaluation.results import Evaluation
from postnms.files.atomic import write_json, write_json_list
from postnms.files.folders import Marker, own_folder
from postnms.files.json_files import read_json
from postnms.recipes import Recipe
from postnms.runs.provenance import provenance

MARKER = Marker("recipe.json", ("detector", "training"))
"""The file that marks the folder of a run."""

_VAL_HASH = "annotations_sha256"
"""Name of the hash of the val split's annotations in the provenance."""


@dataclass(frozen=True)
class RunFolder:
    """A run folder, with the paths of the files in it.

    ``measured`` is the name of what was measured (:func:`postnms.runs.measured.measured_name`):
    ``val``, another split, or a split of other data.
    """

    root: Path

    @property
    def recipe(self) -> Path:
        """The whole recipe, with the changes that the user made to it."""
        return self.root / MARKER.name

    @property
    def labels(self) -> Path:
        """The label map: the categories in the order of the labels."""
        return self.root / "labels.json"

    @property
    def provenance(self) -> Path:
        """Command, commit, versions, machine, seed and data of the training."""
        return self.root / "provenance.json"

    @property
    def checkpoint(self) -> Path:
        """The state of the training, from which it can be resumed."""
        return self.root / "checkpoint.safetensors"

    @property
    def older_checkpoint(self) -> Path:
        """The checkpoint before the last one."""
        return self.root / "checkpoint.older.safetensors"

    @property
    def weights(self) -> Path:
        """The trained detector."""
        return self.root / "weights.safetensors"

    @property
    def best(self) -> Path:
        """The weights of the evaluation with the best AP."""
        return self.root / "best.safetensors"

    @property
    def newest_weights(self) -> Path:
        """The weights of the trained detector, or its last checkpoint while it is trained."""
        files = (self.weights, self.checkpoint, self.older_checkpoint)
        return next((file for file in files if file.is_file()), self.checkpoint)

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from. After a kill it may be the older one."""
        return self.checkpoint.is_file() or self.older_checkpoint.is_file()

    @property
    def has_weights(self) -> bool:
        """Whether there is what a training has learned, which a new run would remove."""
        return self.has_checkpoint or self.weights.is_file()

    @property
    def log(self) -> Path:
        """JSON objects, one on each line.

        They hold losses and learning rates by iteration, and the metrics of evaluations.
        """
        return self.root / "log.jsonl"

    @property
    def metrics(self) -> Path:
        """The figures of all rows in the last evaluation on the val split, and the gain."""
        return self.metrics_of("val")

    @property
    def evaluation(self) -> Path:
        """The provenance of the metrics, if ``postnms eval`` gave them.

        The file does not exist if the metrics are those at the end of the training.
        """
        return self.evaluation_of("val")

    @property
    def other_splits(self) -> Path:
        """Names besides ``val`` of what the run was evaluated on, each with its data folder."""
        return self.root / "splits.json"

    def metrics_of(self, measured: str) -> Path:
        """Return the path of the figures on a split, for example ``metrics.test.json``."""
        return self.root / f"metrics{_ending(measured)}.json"

    def evaluation_of(self, measured: str) -> Path:
        """Return the path of the provenance of the metrics on a split."""
        return self.root / f"evaluation{_ending(measured)}.json"

    @property
    def pictures(self) -> Path:
        """Paths of the pictures that ``postnms demo`` has drawn, relative to the folder."""
        return self.root / "pictures.json"

    def curves(self, measured: str = "val") -> Path:
        """Return the path of the curves of all rows, if ``postnms eval --plots`` gave them."""
        return self.root / f"curves{_ending(measured)}.json"

    def curves_chart(self, measured: str = "val") -> Path:
        """Return the path of a chart of these curves."""
        return self.root / f"curves{_ending(measured)}.png"

    def results(self, row: str, measured: str = "val") -> Path:
        """Return the path of the COCO results of one row on a split."""
        return self.root / f"results_{row}{_ending(measured)}.json"


def _ending(measured: str) -> str:
    """Return what files have before their ending: nothing for the val split of the run's data."""
    return "" if measured == "val" else f".{measured}"


def hold_run(folder: RunFolder, command: str | None = None) -> AbstractContextManager[None]:
    """Hold a run folder during the ``with`` block, so that no other process writes to it meanwhile.

    ``command`` says what this process does, for the message that another process shows. Raises
    UserError unless the folder is new, empty, or that of a run that no other process holds.
    """
    return own_folder(folder.root, "a run", MARKER, command=command)


def begin_run(
    folder: RunFolder,
    recipe: Recipe,
    categories: tuple[Category, ...],
    data: Path | None,
    *,
    resume: bool,
    command: str | None = None,
    precision: str | None = None,
    val_hash: str | None = None,
) -> None:
    """Write recipe, label map and provenance, and remove the files of an earlier run.

    A run that is resumed keeps its files. Its recipe is replaced, since some fields of it may
    change, and its provenance also tells how it was resumed. Only files that a run writes are
    removed: other files in the folder stay.

    Args:
        folder: the folder, which this process holds (:func:`hold_run`).
        recipe: all settings of the run.
        categories: the classes in the order of the labels.
        data: the data folder. None: the built-in data.
        resume: True if the run goes on from its checkpoint.
        command: the command line that started the run.
        precision: what the run is trained in on this machine. None: it is not told.
        val_hash: hash of the annotations of the val split
            (:func:`~postnms.data.digest.annotations_hash`). None: it is not told.
    """
    here = {
        **provenance(recipe.seed, data, command),
        **({} if precision is None else {"precision": precision}),
        **({} if val_hash is None else {_VAL_HASH: val_hash}),
        "data_folder": None if data is None else str(data.resolve()),
    }
    if data is None and recipe.data.scenes is None:
        here["data"] = "in memory"
    if resume:
        before = _read_provenance(folder)
        write_json(folder.recipe, recipe.model_dump(mode="json"))
        write_json(folder.provenance, {**before, "resumed": [*before.get("resumed", []), here]})
        return
    _remove_earlier_run(folder)
    # The recipe marks the folder as that of a run, so it comes first.
    write_json(folder.recipe, recipe.model_dump(mode="json"))
    write_json(folder.labels, labels_of(categories))
    write_json(folder.provenance, here)


def labels_of(categories: Sequence[Category]) -> list[dict[str, Any]]:
    """Return the content of ``labels.json`` for the classes in the order of the labels."""
    return [{"label": i, "id": c.id, "name": c.name} for i, c in enumerate(categories)]


def write_evaluation(
    folder: RunFolder,
    recipe: Recipe,
    data: Path | None,
    command: str | None = None,
    split: str = "val",
    measured: str = "val",
) -> None:
    """Write the provenance of metrics that are not those at the end of the training.

    ``data`` is the data folder, None the built-in data. ``command`` is the command line that
    started the evaluation, ``split`` is the split that it was on, and ``measured`` the name that
    its figures have in the run.
    """
    about = {**provenance(recipe.seed, data, command), "split": split}
    write_json(folder.evaluation_of(measured), {**about, "recipe": recipe.model_dump(mode="json")})


def write_results(
    folder: RunFolder,
    evaluation: Evaluation | None,
    results: Results,
    measured: str = "val",
    data: Path | None = None,
) -> None:
    """Write one COCO results file for each row, and the metrics if there is an evaluation.

    The results files of an earlier evaluation with the same name are replaced. Its curves are
    removed, and so are its metrics if there are no new ones. ``data`` is the data folder that was
    measured, None the built-in data.
    """
    if measured != "val":
        # The list comes first, so that no file is left behind that it does not name.
        where = None if data is None else str(data.resolve())
        others = {**read_other_splits(folder), measured: where}
        write_json(folder.other_splits, dict(sorted(others.items())))
    for file in (folder.curves(measured), folder.curves_chart(measured)):
        file.unlink(missing_ok=True)
    for row, columns in results.items():
        write_json_list(folder.results(row, measured), Entries(columns))
    for row in ROW_TITLES.keys() - results.keys():
        folder.results(row, measured).unlink(missing_ok=True)
    if evaluation is None:
        folder.metrics_of(measured).unlink(missing_ok=True)
    else:
        write_json(folder.metrics_of(measured), evaluation.to_json())


def read_recipe(folder: RunFolder) -> Recipe:
    """Return the recipe of a run. Raises UserError if the folder is no run."""
    return Recipe.parse(_read(folder.recipe), str(folder.recipe))


def read_data_folder(folder: RunFolder) -> Path | None:
    """Return the data folder that a run was last trained on, None if the data is built in."""
    about = _read_provenance(folder)
    # A run may go on with data that have moved.
    where = [about, *about.get("resumed", [])][-1].get("data_folder", 0)
    if not isinstance(where, str | None):
        raise UserError(
            f"{folder.provenance}: data_folder: expected a path or null, got {shown(where)}"
        )
    return None if where is None else Path(where)


def read_val_hash(folder: RunFolder) -> str | None:
    """Return the hash of the annotations of the val split that a run was last trained with.

    None: the run is of a version that did not store it.
    """
    about = _read_provenance(folder)
    found = [about, *about.get("resumed", [])][-1].get(_VAL_HASH)
    if not isinstance(found, str | None):
        raise UserError(f"{folder.provenance}: {_VAL_HASH}: expected a text, got {shown(found)}")
    return found


def read_categories(folder: RunFolder) -> tuple[Category, ...]:
    """Return the label map of a run: its classes in the order of the labels."""
    entries = _read(folder.labels)
    if not isinstance(entries, list) or not all(_is_category(entry) for entry in entries):
        raise UserError(
            f"{folder.labels}: expected a list of classes with id and name, got another form"
        )
    categories = tuple(Category(id=entry["id"], name=entry["name"]) for entry in entries)
    if len({category.id for category in categories}) < len(categories):
        raise UserError(f"{folder.labels}: expected classes with different ids, got one id twice")
    return categories


def _is_category(entry: Any) -> bool:
    """Return whether an entry of the label map has an id and a name of the right types."""
    return (
        isinstance(entry, dict)
        and type(entry.get("id")) is int
        and isinstance(entry.get("name"), str)
    )


def _read_provenance(folder: RunFolder) -> dict[str, Any]:
    """Return the provenance of a run. Raise UserError if it is missing or has another form."""
    about = _read(folder.provenance)
    if not isinstance(about, dict):
        raise UserError(f"{folder.provenance}: expected an object, got {type(about).__name__}")
    resumed = about.get("resumed", [])
    if not isinstance(resumed, list) or not all(isinstance(entry, dict) for entry in resumed):
        raise UserError(f"{folder.provenance}: resumed: expected a list of objects")
    try:  # It is written again when the run is resumed.
        json.dumps(about, allow_nan=False)
    except ValueError as error:
        raise UserError(f"{folder.provenance}: expected finite numbers, got others") from error
    return about


def remove_end(folder: RunFolder) -> None:
    """Remove the final weights of a run that is trained further, and all that was measured of it.

    Weights mark a run that is trained to its end. Until then its checkpoints have them, whose
    scores are others: a threshold of the shorter run would not fit them.
    """
    # The weights come last, so that figures are never left behind without them.
    for file in (*_measured_files(folder), folder.weights):
        file.unlink(missing_ok=True)


def _measured_files(folder: RunFolder) -> list[Path]:
    """Return the paths of figures, curves and results on all splits, and of the list of splits."""
    files = []
    for name in ("val", *read_other_splits(folder)):
        files += [folder.metrics_of(name), folder.evaluation_of(name)]
        files += [folder.curves(name), folder.curves_chart(name)]
        files += [folder.results(row, name) for row in ROW_TITLES]
    # The list comes last, so that no file is left behind that it does not name.
    return [*files, folder.other_splits]


def _remove_earlier_run(folder: RunFolder) -> None:
    earlier = [folder.checkpoint, folder.older_checkpoint, folder.weights, folder.best, folder.log]
    earlier += _measured_files(folder)
    if folder.pictures.is_file():
        names = _read(folder.pictures)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{folder.pictures}: expected a list of paths, got another form")
        # Only the last part of a name counts, so that a list cannot lead out of the folder.
        listed = {name.rpartition("/")[2] for name in names}
        there = (folder.root / "pictures").glob("*")
        earlier += [path for path in there if path.name in listed and path.is_file()]
        earlier.append(folder.pictures)
    for file in earlier:
        file.unlink(missing_ok=True)


def read_other_splits(folder: RunFolder) -> dict[str, str | None]:
    """Return the names besides ``val`` of what the run was evaluated on.

    Each has the path of its data folder, or None for the built-in data, and where an earlier
    version of the library has written the list, which had the names alone.
    """
    if not folder.other_splits.is_file():
        return {}
    names = _read(folder.other_splits)
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        names = dict.fromkeys(names)
    # A name is part of the names of files, which are removed: it must not lead out of the folder.
    if (
        not isinstance(names, dict)
        or not all(_is_plain(name) for name in names)
        or not all(isinstance(where, str | None) for where in names.values())
    ):
        raise UserError(f"{folder.other_splits}: expected a list of splits, got another form")
    return names


def _is_plain(name: Any) -> bool:
    return is_text(name) and bool(name) and not any(mark in name for mark in "/\\\0")


def _read(path: Path) -> Any:
    """Return the content of a JSON file. Raise UserError if it is missing or malformed."""
    if not path.is_file():
        raise UserError(f"{path.parent}: not a run folder (no {path.name})")
    return read_json(path)
