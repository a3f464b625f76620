"""The score from which on detections count: a number, or the one with the best F1 of a row."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from postnms.errors import UserError, shown
from postnms.evaluation.results import BestF1

AUTO = "auto"
"""In place of a number: the score with the best F1 on the val split of the run."""
MinScoreInput = float | Literal["auto"]
"""A number or :data:`AUTO`."""


def resolve_min_score(
    min_score: MinScoreInput, row: str, best_f1: Mapping[str, BestF1 | None], folder: Path | None
) -> float:
    """Return a least score as a number.

    Args:
        min_score: what the user gives.
        row: the row that it is for.
        best_f1: the score with the best F1 of each row that has one.
        folder: the folder of the run, for the message. None: the model has none.

    Raises:
        UserError: the row has no score with a best F1, or ``min_score`` is no number and another
            text.
    """
    if min_score != AUTO:
        least = _number(min_score)
        if math.isnan(least):
            raise UserError(
                f"expected a number or {AUTO!r}, got {shown(min_score)}", argument="min_score"
            )
        return least
    best = best_f1.get(row)
    if best is not None:
        return best.score
    if row in best_f1:
        reason = f"no detection of {row} is right on the val split of the run; give a number"
    elif folder is None:
        reason = f"the model has no run with a best F1 of {row}; give a number"
    else:
        reason = (
            f"{folder} has no best F1 of {row} with its own settings; "
            f"run 'postnms eval {folder}' first"
        )
    raise UserError(f"{AUTO}: {reason}", argument="min_score")


def _number(value: Any) -> float:
    """Return a number of any type as a float, NaN if the value is none, such as a text."""
    try:
        return math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return math.nan
