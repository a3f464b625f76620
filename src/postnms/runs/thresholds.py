"""The score thresholds of a run: those with the best F1 on its val split."""

import math
from collections.abc import Mapping
from typing import Any

from postnms.errors import UserError, shown
from postnms.evaluation.results import BestF1, Evaluation
from postnms.files.json_files import read_json
from postnms.recipes import Recipe
from postnms.runs.folder import RunFolder, read_recipe


def read_best_f1(folder: RunFolder) -> Mapping[str, BestF1 | None]:
    """Return the score threshold with the best F1 of every row, by the name of the row.

    It is that of the last evaluation on the val split. None: no detection of the row was right. The
    result is empty if the run has no thresholds: it was not evaluated yet, or not since it was
    trained further, or by a version that did not store them, or last by ``postnms eval`` with other
    settings of the detector or of the stage, so that the scores are not those that the run gives.

    Raises:
        UserError: a file is damaged or of another form.
    """
    if not folder.metrics.is_file() or _is_of_other_settings(folder):
        return {}
    content = read_json(folder.metrics)
    stored = content.get("best_f1", {}) if isinstance(content, dict) else None
    if not isinstance(stored, dict) or not all(
        best is None or _is_best_f1(best) for best in stored.values()
    ):
        raise UserError(
            f"{folder.metrics}: best_f1: expected score, f1, precision and recall of each row, "
            f"got another form"
        )
    return Evaluation.from_json({"best_f1": stored}).best_f1


def _is_best_f1(best: Any) -> bool:
    names = BestF1.__dataclass_fields__.keys()
    return (
        isinstance(best, dict)
        and best.keys() == names
        and all(type(value) in (int, float) and math.isfinite(value) for value in best.values())
    )


def _is_of_other_settings(folder: RunFolder) -> bool:
    """Return whether the last evaluation was of another detector or stage than the run's."""
    if not folder.evaluation.is_file():
        return False
    about = read_json(folder.evaluation)
    content = about.get("recipe") if isinstance(about, dict) else None
    if not isinstance(content, dict):
        raise UserError(f"{folder.evaluation}: recipe: expected an object, got {shown(content)}")
    evaluated = Recipe.parse(content, str(folder.evaluation))
    own = read_recipe(folder)
    return (evaluated.detector, evaluated.stage) != (own.detector, own.stage)
