"""Duplicates at equal recall: how well a suppressor tells two detections of one object from two objects.

d: detections.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postnms.evaluation.matching import Matching
from postnms.evaluation.results import Result
from postnms.evaluation.tide import DUPLICATE, find_errors, match_at_half


def duplicate_rate(truth: dict[str, Any], results: Sequence[Result], recall: float) -> float | None:
    """Share of duplicates, in per cent, among the fewest best-scored detections that have the recall; None: none have.

    ``recall``: (0, 1], share of the objects of all classes that a detection of their class is matched to, at IoU 0.5.
    Detections of all classes are in one order of falling score (ties: image, then place in the results); those on
    crowd regions are left out. What a duplicate is: :func:`postnms.evaluation.tide.find_errors`.
    """
    if not 0 < recall <= 1:
        raise ValueError(f"recall: expected a value over 0, up to 1, got {recall}")
    matching = match_at_half(truth, results)
    recalls = _recalls(matching)
    count = int(np.searchsorted(recalls, recall)) + 1
    if count > len(recalls):
        return None
    duplicate = find_errors(matching).kind[matching.counted[0]] == DUPLICATE
    return 100 * float(duplicate[:count].mean())


def max_recall(truth: dict[str, Any], results: Sequence[Result]) -> float:
    """Recall of all detections that count: 0 to 1, and 0 without objects."""
    recalls = _recalls(match_at_half(truth, results))
    return float(recalls[-1]) if len(recalls) else 0.0


def _recalls(matching: Matching) -> NDArray[np.float64]:
    """Recall after each detection that is not on a crowd region."""
    objects = int((~matching.objects.crowd).sum())
    return matching.correct[0][matching.counted[0]].cumsum() / max(objects, 1)
