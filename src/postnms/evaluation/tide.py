"""Types of errors and their costs in AP50 (Bolya et al., TIDE, arXiv 2008.08115, section 2).

At IoU 0.5 every wrong detection has exactly one type. An object that no detection reaches is an
error too, of the type ``missed``. The cost of a type is the gain in AP50 when all errors of this
type, and no others, are fixed.

The matching, the limit of 100 detections of an image and class, and AP follow COCO. Detections on
crowd regions are neither right nor wrong. Classes without objects have no AP.

m: objects and crowd regions, d: detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postnms.data.dataset import Truth
from postnms.evaluation.average_precision import accumulate, by_class, count_objects
from postnms.evaluation.columns import ResultColumns
from postnms.evaluation.matching import Matching, closest_objects, match_results
from postnms.evaluation.matching_kernels import IGNORED, RIGHT, WRONG
from postnms.evaluation.results import Result

ERROR_TYPES: tuple[str, ...] = (
    "classification",
    "localisation",
    "both",
    "duplicate",
    "background",
    "missed",
)
"""Names of the types. ``missed`` is a type of objects, the others are types of detections."""
VERDICT_RIGHT, VERDICT_IGNORED, VERDICT_UNCOUNTED = "right", "ignored", "uncounted"
VERDICTS = (VERDICT_RIGHT, *ERROR_TYPES[:-1], VERDICT_IGNORED, VERDICT_UNCOUNTED)
"""What may be said of a detection: that it is right, the type of its error, that it lies on a crowd
region, or that COCO does not count it, since 100 of its image and class score better."""
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(ERROR_TYPES))
"""Positions of the types in :data:`ERROR_TYPES`."""
POSITIVE_IOU = 0.5
"""IoU with an object from which a detection is right, if the class is the object's."""
BACKGROUND_IOU = 0.1
"""IoU under which a detection does not belong to an object at all."""


@dataclass(frozen=True)
class ErrorTypes:
    """AP50 of a detector and the costs of its errors, in per cent.

    No cost is below 0. The costs do not add up to 100 - AP50, since fixing one type of error
    changes the cost of the others.
    """

    ap50: float | None
    """AP at IoU 0.5, in [0, 100]. None: there are no objects, and all costs are 0."""
    costs: dict[str, float]
    """For each type: AP50 with the errors of that type fixed, minus AP50."""
    counts: dict[str, int]
    """For each type: the number of detections, or of objects for ``missed``.

    Detections of classes without objects are counted too.
    """
    false_positives: float
    """Gain in AP50 if every wrong detection is removed."""
    false_negatives: float
    """Gain in AP50 if the objects to which no detection is matched are removed."""


@dataclass(frozen=True)
class Errors:
    """The type of each error, and the object that each wrong detection was meant for."""

    kind: NDArray[np.int64]
    """(d,) position in :data:`ERROR_TYPES`. -1: the detection is right, or on a crowd region."""
    target: NDArray[np.int64]
    """(d,) row of the object that the detection would match if its class or its box was corrected.

    -1: the detection has no such object. Only the types ``classification`` and ``localisation``
    have one.
    """
    unmatched: NDArray[np.bool_]
    """(m,). True: an object to which no detection is matched."""
    missed: NDArray[np.bool_]
    """(m,). True: an unmatched object that is not the target of a detection either."""


def error_types(truth: Truth, results: Sequence[Result] | ResultColumns) -> ErrorTypes:
    """Return AP50 of the results, and the number and the cost of the errors of each type.

    To fix a type means the following. A ``classification`` or ``localisation`` error becomes right
    if its target is unmatched and no better-scored error of the same type has that target.
    Otherwise it is removed. Errors of the types ``both``, ``duplicate`` and ``background`` are
    removed. Objects that are ``missed`` are removed.

    Args:
        truth: the annotations.
        results: the results of one detector.

    Raises:
        ValueError: as for :func:`postnms.evaluation.matching.match_results`.

    Example:
        >>> from postnms.data.dataset import Category
        >>> entry = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
        >>> content = {
        ...     "images": [{"id": 1}],
        ...     "categories": [{"id": 1, "name": "cat"}],
        ...     "annotations": [entry | {"iscrowd": 0, "area": 81}],
        ... }
        >>> truth = Truth((Category(1, "cat"),), content, "example")
        >>> background = entry | {"bbox": [50, 50, 9, 9], "score": 0.9}
        >>> errors = error_types(truth, [background, entry | {"score": 0.8}])
        >>> round(errors.ap50), errors.counts["background"], round(errors.costs["background"])
        (50, 1, 50)
    """
    matching = match_results(truth, results)
    return cost_errors(matching, find_errors(matching))


def cost_errors(matching: Matching, errors: Errors) -> ErrorTypes:
    """Return what :func:`error_types` returns, from a matching and its errors."""
    kinds = [int((errors.kind == kind).sum()) for kind in range(MISSED)]
    counts = dict(zip(ERROR_TYPES, [*kinds, int(errors.missed.sum())], strict=True))
    label = matching.results.label
    correct = matching.correct[0]
    counted = matching.counted[0]
    nothing = np.zeros_like(errors.missed)
    ap50 = _ap50(matching, label, correct, counted, nothing)
    if ap50 is None:
        return ErrorTypes(None, dict.fromkeys(ERROR_TYPES, 0.0), counts, 0.0, 0.0)

    def gain(label: NDArray, correct: NDArray, counted: NDArray, dropped: NDArray) -> float:
        """Return AP50 of the corrected matching minus AP50."""
        fixed = _ap50(matching, label, correct, counted, dropped)
        # None: neither an object nor a detection is left, so there is no error left.
        return (100.0 if fixed is None else fixed) - ap50

    # Each type is fixed alone, starting from the original matching.
    costs = [gain(*_corrected(matching, errors, kind), nothing) for kind in range(MISSED)]
    costs.append(gain(label, correct, counted, errors.missed))
    return ErrorTypes(
        ap50,
        dict(zip(ERROR_TYPES, costs, strict=True)),
        counts,
        false_positives=gain(label, correct, correct, nothing),
        false_negatives=gain(label, correct, counted, errors.unmatched),
    )


def find_errors(matching: Matching) -> Errors:
    """Return the type of each error of a matching, whose first IoU threshold is 0.5.

    "Same" is the largest IoU of a wrong detection with an object of its class, "other" is that with
    an object of another class. The first type in this order that fits is taken:

    1. ``localisation``: same is in [0.1, 0.5).
    2. ``classification``: other is at least 0.5.
    3. ``duplicate``: same is at least 0.5. A better detection has taken that object.
    4. ``background``: same and other are under 0.1.
    5. ``both``: the rest. Same is under 0.1, and other is in [0.1, 0.5).
    """
    same, other = closest_objects(matching)
    right = matching.correct[0]
    ignored = ~matching.counted[0]
    near = (same.iou >= BACKGROUND_IOU) & (same.iou < POSITIVE_IOU)
    # np.select takes the first test that holds, so the order of this list is the order above.
    tests = [
        (right | ignored, -1),
        (near, LOCALISATION),
        (other.iou >= POSITIVE_IOU, CLASSIFICATION),
        (same.iou >= POSITIVE_IOU, DUPLICATE),
        (np.maximum(same.iou, other.iou) < BACKGROUND_IOU, BACKGROUND),
    ]
    kind = np.select([test for test, _ in tests], [kind for _, kind in tests], BOTH)
    target = np.select([kind == LOCALISATION, kind == CLASSIFICATION], [same.row, other.row], -1)
    unmatched = matching.objects.counted()
    unmatched[matching.taken[right]] = False
    # An object that a wrong detection was meant for is charged to that detection, not as missed.
    missed = unmatched.copy()
    missed[target[target >= 0]] = False
    return Errors(kind, target, unmatched, missed)


def verdicts(matching: Matching, errors: Errors, count: int) -> NDArray[np.str_]:
    """Return one of :data:`VERDICTS` for each result, (count,) in the order given.

    ``count`` is the number of results that ``read_results`` gave, those that do not count included.
    """
    found = np.array([*ERROR_TYPES, VERDICT_RIGHT])[errors.kind]  # -1 is the last one.
    found[~matching.counted[0]] = VERDICT_IGNORED
    of_given = np.full(count, VERDICT_UNCOUNTED, f"<U{max(map(len, VERDICTS))}")
    of_given[matching.results.given] = found
    return of_given


def _corrected(matching: Matching, errors: Errors, kind: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return label, correct and counted, each (d,), after the errors of one type are fixed.

    ``kind`` is the position of a type of detections in :data:`ERROR_TYPES`.
    """
    # Errors that can become right: they have a target, and no detection is matched to it.
    rows = np.flatnonzero((errors.kind == kind) & (errors.target >= 0))
    rows = rows[errors.unmatched[errors.target[rows]]]
    # Only one detection may take an object. The first is the best, as scores are falling.
    _, best = np.unique(errors.target[rows], return_index=True)
    reached = np.zeros(len(errors.kind), np.bool_)
    reached[rows[best]] = True
    # A corrected detection counts for the class of its object.
    label = matching.results.label.copy()
    label[reached] = matching.objects.label[errors.target[reached]]
    return (
        label,
        matching.correct[0] | reached,
        matching.counted[0] & ((errors.kind != kind) | reached),
    )


def _ap50(
    matching: Matching, label: NDArray, correct: NDArray, counted: NDArray, dropped: NDArray
) -> float | None:
    """Return AP50 in per cent, the mean over the classes, of a matching that may be corrected.

    Dropped objects reduce the number of objects in the recall and change nothing else. TIDE
    thereby assumes that a detector is as precise on them as on the others. A class that loses
    all its objects has AP 0 if it has counted detections, and is left out otherwise. None: no
    class is left.

    Args:
        matching: the matching, for its objects.
        label: (d,) class of each detection.
        correct: (d,) bool, matched to an object.
        counted: (d,) bool. Other detections are removed.
        dropped: (m,) bool, objects that are removed.
    """
    objects = matching.objects
    classes = matching.num_classes
    known = count_objects(objects.label, objects.counted(), classes)
    asked = count_objects(objects.label, objects.counted() & ~dropped, classes)
    found = np.bincount(label[counted], minlength=classes)
    verdicts = np.select([~counted, correct], [IGNORED, RIGHT], WRONG).astype(np.int8)
    rows = by_class(label, classes)
    precision = accumulate(verdicts[None, None], rows, asked[None]).precision[0, 0]
    # A class without objects has the precision -1 at all recalls.
    values = precision.mean(axis=0).clip(min=0)[(known > 0) & ((asked > 0) | (found > 0))]
    return 100 * float(values.mean()) if len(values) else None
