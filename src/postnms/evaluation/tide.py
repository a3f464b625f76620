"""What each type of error costs a detector (Bolya et al., TIDE, arXiv 2008.08115, section 2).

At IoU 0.5 every wrong detection has one type, and so has every object that no detection reaches. A type costs what
AP50 gains when its errors alone are fixed. Matching, limits (100 detections of an image AND class) and AP are COCO's:
detections on crowd regions are neither right nor wrong, classes without objects have no AP.

m: objects and crowd regions, d: detections, K: classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postnms.evaluation.average_precision import RECALLS, average_precisions
from postnms.evaluation.matching import Matching, closest_objects, match
from postnms.evaluation.results import Result

ERROR_TYPES: tuple[str, ...] = (
    "classification",
    "localisation",
    "both",
    "duplicate",
    "background",
    "missed",
)
"""``missed`` is an object's, the others are a detection's."""
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(ERROR_TYPES))
POSITIVE_IOU = 0.5
BACKGROUND_IOU = 0.1


@dataclass(frozen=True)
class ErrorTypes:
    """Figures in AP50 points, per cent; what fixing gains is never less than 0 and does not add up."""

    ap50: float | None
    """None without objects; the figures below are then 0."""
    costs: dict[str, float]
    """By error type: AP50 with that type fixed minus AP50."""
    counts: dict[str, int]
    """By error type: how many detections, or for ``missed`` objects; also those of classes without objects."""
    false_positives: float
    """What AP50 gains without any wrong detection."""
    false_negatives: float
    """What AP50 gains if objects that no detection is matched to are not asked for."""


@dataclass(frozen=True)
class Errors:
    """The type of each error, and what would become of it."""

    kind: NDArray[np.int64]
    """(d,) position in :data:`ERROR_TYPES`, -1 for a detection that is right or on a crowd region."""
    target: NDArray[np.int64]
    """(d,) row of the object that the detection would reach with its class or its place corrected, -1 for none."""
    unmatched: NDArray[np.bool_]
    """(m,): an object that no detection is matched to."""
    missed: NDArray[np.bool_]
    """(m,): unmatched, and the target of no detection."""


def error_types(truth: dict[str, Any], results: Sequence[Result]) -> ErrorTypes:
    """AP50 of results against a COCO dict, and what each type of error takes from it.

    A corrected detection becomes right if its object is unmatched and it is the best-scored of its type for that
    object, else it is removed; the other errors are removed, and missed objects are not asked for.
    """
    matching = match_at_half(truth, results)
    errors = find_errors(matching)
    kinds = [int((errors.kind == kind).sum()) for kind in range(MISSED)]
    counts = dict(zip(ERROR_TYPES, [*kinds, int(errors.missed.sum())], strict=True))
    label, correct, counted = matching.found.label, matching.correct[0], matching.counted[0]
    nothing = np.zeros_like(errors.missed)
    ap50 = _ap50(matching, label, correct, counted, nothing)
    if ap50 is None:
        return ErrorTypes(None, dict.fromkeys(ERROR_TYPES, 0.0), counts, 0.0, 0.0)

    def gain(label: NDArray, correct: NDArray, counted: NDArray, dropped: NDArray) -> float:
        fixed = _ap50(matching, label, correct, counted, dropped)
        return (
            100.0 if fixed is None else fixed
        ) - ap50  # None: nothing is asked for and nothing is found

    costs = [gain(*_corrected(matching, errors, kind), nothing) for kind in range(MISSED)]
    costs.append(gain(label, correct, counted, errors.missed))
    return ErrorTypes(
        ap50,
        dict(zip(ERROR_TYPES, costs, strict=True)),
        counts,
        false_positives=gain(label, correct, correct, nothing),
        false_negatives=gain(label, correct, counted, errors.unmatched),
    )


def match_at_half(truth: dict[str, Any], results: Sequence[Result]) -> Matching:
    """COCO's matching at IoU 0.5 alone."""
    return match(truth, results, np.array([POSITIVE_IOU]))


def find_errors(matching: Matching) -> Errors:
    """The type of each error of a matching at IoU 0.5; where several fit, the first in the order below is taken.

    localisation: best IoU with an object of the class in [0.1, 0.5); classification: best IoU with an object of
    another class >= 0.5; duplicate: IoU with an object of the class >= 0.5, which then a better detection has taken;
    background: best IoU with any object < 0.1; both: the rest, best IoU with an object of another class in [0.1, 0.5).
    """
    own, other = closest_objects(matching)
    right, ignored = matching.correct[0], ~matching.counted[0]
    near = (own.iou >= BACKGROUND_IOU) & (own.iou < POSITIVE_IOU)
    tests = [
        (right | ignored, -1),
        (near, LOCALISATION),
        (other.iou >= POSITIVE_IOU, CLASSIFICATION),
        (own.iou >= POSITIVE_IOU, DUPLICATE),
        (np.maximum(own.iou, other.iou) < BACKGROUND_IOU, BACKGROUND),
    ]
    kind = np.select([test for test, _ in tests], [kind for _, kind in tests], BOTH)
    target = np.select([kind == LOCALISATION, kind == CLASSIFICATION], [own.row, other.row], -1)
    unmatched = ~matching.objects.crowd
    unmatched[matching.taken[0][right]] = False
    missed = unmatched.copy()
    missed[target[target >= 0]] = False
    return Errors(kind, target, unmatched, missed)


def _corrected(matching: Matching, errors: Errors, kind: int) -> tuple[NDArray, NDArray, NDArray]:
    """Label, correct and counted, each (d,), with the errors of one kind of detection fixed."""
    rows = np.flatnonzero((errors.kind == kind) & (errors.target >= 0))
    rows = rows[errors.unmatched[errors.target[rows]]]
    _, best = np.unique(
        errors.target[rows], return_index=True
    )  # the first of each: detections are by falling score
    reached = np.zeros(len(errors.kind), np.bool_)
    reached[rows[best]] = True
    label = matching.found.label.copy()
    label[reached] = matching.objects.label[errors.target[reached]]
    return (
        label,
        matching.correct[0] | reached,
        matching.counted[0] & ((errors.kind != kind) | reached),
    )


def _ap50(
    matching: Matching, label: NDArray, correct: NDArray, counted: NDArray, dropped: NDArray
) -> float | None:
    """Mean of the classes' AP; the detections' columns (d,) may be changed, and objects (m,) not be asked for.

    A class that loses all its objects keeps an AP of 0 if anything is found of it: TIDE supposes that a detector is
    as precise on dropped objects as on the others. None if there is no class left.
    """
    objects, values = matching.objects, []
    for number in np.unique(objects.label[~objects.crowd]):
        rows = np.flatnonzero(counted & (label == number))
        asked = int(((objects.label == number) & ~objects.crowd & ~dropped).sum())
        if asked:
            once, image = np.ones(1, np.int64), np.zeros(len(rows), np.int64)
            hits = correct[rows][None]
            values.append(
                average_precisions(image, hits, np.ones_like(hits), once, asked, RECALLS)[0]
            )
        elif len(rows):
            values.append(0.0)
    return 100 * float(np.mean(values)) if values else None
