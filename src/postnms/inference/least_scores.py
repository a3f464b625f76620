"""The scores from which on detections are shown: one for all rows, or one for each row."""

from collections.abc import Mapping

MinScore = float | Mapping[str, float]
"""One score for all rows, or a score for each row by its name."""


def least_score(min_score: MinScore, row: str) -> float:
    """Return the score from which on detections of a row are shown."""
    return min_score[row] if isinstance(min_score, Mapping) else min_score
