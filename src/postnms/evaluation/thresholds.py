"""F1 of the detections that score enough, and the score threshold where it is best.

F1 is 2 TP / (2 TP + FP + FN) at IoU 0.5, with TP, FP and FN counted over all classes together.
Detections on crowd regions and those of classes without an object do not count.

d: detections.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postnms.evaluation.average_precision import count_objects
from postnms.evaluation.matching import Matching
from postnms.evaluation.results import BestF1


@dataclass(frozen=True)
class Tally:
    """How many of the n best-scored detections are right and how many count, for every n."""

    right: NDArray[np.int64]
    """(d + 1,): entry n is the number of those that are matched to an object at IoU 0.5."""
    counted: NDArray[np.int64]
    """(d + 1,): entry n is the number of those that are right or wrong."""
    objects: int
    """Number of objects in the images."""

    def f1(self, count: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return F1, in [0, 1], of the ``count`` best-scored detections. There must be an object.

        ``count`` has any shape, and so has the result.
        """
        return 2 * self.right[count] / (self.counted[count] + self.objects)


def tally(matching: Matching) -> Tally:
    """Return the tally of a matching, whose first IoU threshold is 0.5."""
    objects = matching.objects
    of_class = count_objects(objects.label, objects.counted(), matching.num_classes)
    known = of_class[matching.results.label] > 0
    right = np.append(0, (matching.correct[0] & known).cumsum())
    counted = np.append(0, (matching.counted[0] & known).cumsum())
    return Tally(right, counted, int(of_class.sum()))


def best_f1(matching: Matching) -> BestF1 | None:
    """Return the score threshold with the best F1, the lowest of equal ones.

    Every set of detections that a threshold can choose is looked at, so the scores may have any
    range, also outside [0, 1]. The threshold lies in the middle between the lowest score of the
    best set and the next lower score. If there is no lower score, it is the lowest score.

    None: no detection is right, so that no threshold is better than another.
    """
    counts = tally(matching)
    if not counts.right[-1]:
        return None
    scores = matching.results.scores
    # A threshold cannot part equal scores, so a set ends before the score falls.
    ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]) + 1, len(scores))
    values = counts.f1(ends)
    best = int(np.flatnonzero(values == values.max())[-1])
    count = int(ends[best])
    right = int(counts.right[count])
    return BestF1(
        score=_threshold(scores, count),
        f1=float(values[best]),
        precision=right / int(counts.counted[count]),
        recall=right / counts.objects,
    )


def _threshold(scores: NDArray[np.float64], count: int) -> float:
    """Return a threshold that exactly the first ``count`` of the falling scores reach."""
    least = float(scores[count - 1])
    if count == len(scores):
        return least
    below = float(scores[count])
    middle = least / 2 + below / 2
    # Between two neighbouring numbers there is no other one.
    return middle if below < middle <= least else least
