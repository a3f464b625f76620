"""The record of a run: one JSON object with all figures and with where they come from.

Folders of one machine are no part of a record. Of a folder that a command names by an absolute path
only the last parts are recorded.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from postnms.errors import UserError
from postnms.experiments.finished import FinishedRun
from postnms.experiments.plan import Plan
from postnms.files.json_files import read_json
from postnms.recipes.config import flatten

ABOUT = ("command", "processes", "commit", "version", "torch", "machine", "seed", "data")
"""Facts of the origin of a run that are recorded."""
MAY_LACK = ("libraries", "precision")
"""Facts that are recorded of those runs that have them."""

_ABSOLUTE = re.compile(r"(?<![\w./~-])/(?:[^\s/'\"]+/)+")
"""An absolute path without its last part."""


def record_of(plan: Plan, finished: FinishedRun) -> dict[str, Any]:
    """Return the record of a finished run, which JSON can hold.

    It has the title of the experiment and the arm, the facts of :data:`ABOUT`, the whole recipe and
    the fields that differ from the named one, the seconds of training without its evaluations, and
    all figures: by row, by class, and of the suppressors. ``resumed`` and ``evaluation`` are there
    if the run was resumed, and if ``postnms eval`` has measured it again.

    Raises:
        UserError: a file of the run cannot be read or has another form.
    """
    run, evaluation = finished.run, finished.evaluation
    recipe, base = (flatten(part.model_dump(mode="json")) for part in (run.recipe, run.base))
    changes = {path: value for path, value in recipe.items() if base.get(path) != value}
    changes |= dict.fromkeys(sorted(base.keys() - recipe.keys()))
    record = {
        "experiment": plan.experiment.config.title,
        "arm": run.arm,
        **about(run.folder.provenance),
        "seconds": training_seconds(run.folder.log),
        "changes": changes,
        "recipe": run.recipe.model_dump(mode="json"),
        "rows": dict(evaluation.rows),
        "gains": {row: dataclasses.asdict(gain) for row, gain in evaluation.gains.items()},
        "classes": {
            row: [dataclasses.asdict(figures) for figures in classes]
            for row, classes in evaluation.classes.items()
        },
        "suppressors": {
            method: {name: row.get(name) for name in ("figures", "milliseconds", "settings")}
            for method, row in finished.suppressors.items()
        },
    }
    if run.folder.evaluation.is_file():
        record["evaluation"] = about(run.folder.evaluation)
    return without_places(record, plan.folder)


def about(path: Path) -> dict[str, Any]:
    """Return the facts in a file of provenance, with one more entry for each resumption.

    Raises UserError if the file cannot be read or lacks a fact.
    """
    content = read_json(path)
    try:
        first, *later = [
            {name: part[name] for name in (*ABOUT, *(fact for fact in MAY_LACK if fact in part))}
            for part in (content, *content.get("resumed", []))
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: expected {', '.join(ABOUT)}, got other facts") from error
    return {**first, "resumed": later} if later else first


def training_seconds(log: Path) -> float | None:
    """Return the time of all iterations, as the log of a run has it. None: the log has no time.

    Evaluations and checkpoints are left out.
    """
    seconds, before = 0.0, 0
    for line in log.read_text().splitlines() if log.is_file() else []:
        try:
            entry = json.loads(line)
            each, iteration = entry.get("seconds_per_iteration"), entry["iteration"]
        except (ValueError, LookupError, AttributeError, TypeError):
            continue  # A line that a kill has left half written.
        if isinstance(each, int | float) and isinstance(iteration, int):
            seconds += each * (iteration - before)
            before = iteration
    return round(seconds, 1) if before else None


def without_places(value: Any, folder: Path) -> Any:
    """Return a nested value whose texts have no absolute paths.

    Of a path within the folder of the experiment, the part from the name of that folder on is left,
    and of another absolute path the last part.
    """
    if isinstance(value, dict):
        return {name: without_places(part, folder) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(part, folder) for part in value]
    if not isinstance(value, str):
        return value
    around = f"{folder.absolute().parent}/"
    return _ABSOLUTE.sub("", value.replace(around, ""))
