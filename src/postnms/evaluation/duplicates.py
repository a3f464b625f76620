"""The rate of duplicates at a given recall.

It measures how well a suppressor tells two detections of one object from detections of two objects.
A stricter suppressor has fewer duplicates but also misses more objects, so suppressors are
compared at equal recall.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from postnms.data.dataset import Truth
from postnms.evaluation.matching import Matching
from postnms.evaluation.results import Result
from postnms.evaluation.tide import DUPLICATE, find_errors, match_at_half


def duplicate_rate(truth: Truth, results: Sequence[Result], recall: float) -> float | None:
    """Return the percentage of duplicates among the best-scored detections that reach a recall.

    The detections of all classes are ranked together by falling score. Ties are broken by the order
    of the images (:func:`postnms.evaluation.numbering.image_positions`), then by that of the
    results. Detections on crowd regions are left out. The shortest list of best-scored detections
    that reaches the recall is counted.
    :func:`postnms.evaluation.tide.find_errors` defines a duplicate.

    Args:
        truth: the annotations.
        results: the results of one detector.
        recall: fraction in (0, 1] of the objects of all classes that have a detection of their
            class, matched at IoU 0.5.

    Returns:
        The rate in per cent. None: all detections together do not reach the recall.

    Raises:
        ValueError: the recall is outside (0, 1].

    Example:
        >>> from postnms.data.dataset import Category
        >>> entry = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
        >>> content = {
        ...     "images": [{"id": 1}],
        ...     "categories": [{"id": 1, "name": "cat"}],
        ...     "annotations": [
        ...         entry | {"iscrowd": 0},
        ...         entry | {"iscrowd": 0, "bbox": [50, 0, 9, 9]},
        ...     ],
        ... }
        >>> truth = Truth((Category(1, "cat"),), content, "example")
        >>> results = [
        ...     entry | {"score": 0.9},
        ...     entry | {"score": 0.8},  # a duplicate of the first
        ...     entry | {"score": 0.7, "bbox": [50, 0, 9, 9]},
        ... ]
        >>> duplicate_rate(truth, results, recall=0.5)
        0.0
        >>> round(duplicate_rate(truth, results, recall=1.0), 1)
        33.3
    """
    if not 0 < recall <= 1:
        raise ValueError(f"recall: expected a value over 0, up to 1, got {recall}")
    matching = match_at_half(truth, results)
    recalls = _recalls(matching)
    # Recall never falls along the list, so a search gives the first detection that reaches it.
    count = int(np.searchsorted(recalls, recall)) + 1
    if count > len(recalls):
        return None
    duplicate = find_errors(matching).kind[matching.counted[0]] == DUPLICATE
    return 100 * float(duplicate[:count].mean())


def max_recall(truth: Truth, results: Sequence[Result]) -> float:
    """Return the recall of all detections at IoU 0.5, in [0, 1]. It is 0 without objects.

    It is the largest recall for which :func:`duplicate_rate` has a value.
    """
    recalls = _recalls(match_at_half(truth, results))
    return float(recalls[-1]) if len(recalls) else 0.0


def _recalls(matching: Matching) -> NDArray[np.float64]:
    """Return the recall after each detection that is not on a crowd region, by falling score."""
    objects = int((~matching.objects.crowd).sum())
    return matching.correct[0][matching.counted[0]].cumsum() / max(objects, 1)
