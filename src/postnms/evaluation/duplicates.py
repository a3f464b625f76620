"""The rate of duplicates at a given recall, and their number in an image.

The rate measures how well a suppressor tells two detections of one object from detections of two
objects. A stricter suppressor has fewer duplicates but also misses more objects, so suppressors are
compared at equal recall. The number is what a person sees in a picture.

c: detections that are not on crowd regions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postnms.evaluation.matching import Matching
from postnms.evaluation.tide import DUPLICATE, Errors


@dataclass(frozen=True)
class RankedDuplicates:
    """The detections of all classes by falling score, with the recall that each one reaches.

    Ties are broken by the order of the images
    (:func:`postnms.evaluation.numbering.image_positions`), then by that of the results.
    """

    recalls: NDArray[np.float64]
    """(c,) in [0, 1]: the share of the objects of all classes that have a detection of their class,
    matched at IoU 0.5, among the detections up to and with this one."""
    duplicate: NDArray[np.bool_]
    """(c,). :func:`postnms.evaluation.tide.find_errors` defines a duplicate."""

    @property
    def max_recall(self) -> float:
        """The recall of all detections, in [0, 1]. It is 0 without objects.

        It is the largest recall for which :meth:`rate` has a value.
        """
        return float(self.recalls[-1]) if len(self.recalls) else 0.0

    def rate(self, recall: float) -> float | None:
        """Return the percentage of duplicates in the shortest list that reaches a recall.

        The list has the detections with the best scores.

        Args:
            recall: fraction in (0, 1] of the objects.

        Returns:
            The rate in per cent. None: all detections together do not reach the recall.

        Raises:
            ValueError: the recall is outside (0, 1].
        """
        if not 0 < recall <= 1:
            raise ValueError(f"recall: expected a value over 0, up to 1, got {recall}")
        # Recall never falls along the list, so a search gives the first detection that reaches it.
        count = int(np.searchsorted(self.recalls, recall)) + 1
        return None if count > len(self.recalls) else 100 * float(self.duplicate[:count].mean())


@dataclass(frozen=True)
class DuplicateCounts:
    """How many duplicates an image has.

    A duplicate lies on an object of its class with IoU at least 0.5 which a better-scored detection
    has taken. It is an error of the type ``duplicate``, see
    :func:`postnms.evaluation.tide.find_errors`.
    """

    an_image: float | None
    """Duplicates among all detections, the mean over the images. None: there are no images."""
    shown: float | None
    """The same among the detections that score enough. None: no threshold is known."""
    detections: float | None
    """Detections that score enough, right or not, the mean over the images. None: as above."""


def count_duplicates(matching: Matching, errors: Errors, least: float | None) -> DuplicateCounts:
    """Return the duplicates of a row, among all detections and among those that score enough.

    Args:
        matching: the matched results of one detector.
        errors: the errors of the matching.
        least: the score from which on detections are shown. None: not known.
    """
    if not matching.num_images:
        return DuplicateCounts(None, None, None)
    is_duplicate = errors.kind == DUPLICATE
    every = float(is_duplicate.sum()) / matching.num_images
    if least is None:
        return DuplicateCounts(every, None, None)
    shown = matching.results.scores >= least
    return DuplicateCounts(
        every,
        float((is_duplicate & shown).sum()) / matching.num_images,
        float(shown.sum()) / matching.num_images,
    )


def rank_duplicates(matching: Matching, errors: Errors) -> RankedDuplicates:
    """Return the detections of a row that are not on crowd regions, and which are duplicates.

    Args:
        matching: the matched results of one detector.
        errors: the errors of the matching, from :func:`postnms.evaluation.tide.find_errors`.

    Example:
        >>> from postnms.data.dataset import Category, Truth
        >>> from postnms.evaluation.matching import match_results
        >>> from postnms.evaluation.tide import find_errors
        >>> entry = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
        >>> content = {
        ...     "images": [{"id": 1}],
        ...     "categories": [{"id": 1, "name": "cat"}],
        ...     "annotations": [
        ...         entry | {"iscrowd": 0, "area": 81},
        ...         entry | {"iscrowd": 0, "area": 81, "bbox": [50, 0, 9, 9]},
        ...     ],
        ... }
        >>> truth = Truth((Category(1, "cat"),), content, "example")
        >>> results = [
        ...     entry | {"score": 0.9},
        ...     entry | {"score": 0.8},  # a duplicate of the first
        ...     entry | {"score": 0.7, "bbox": [50, 0, 9, 9]},
        ... ]
        >>> matching = match_results(truth, results)
        >>> ranked = rank_duplicates(matching, find_errors(matching))
        >>> ranked.rate(recall=0.5)
        0.0
        >>> round(ranked.rate(recall=1.0), 1)
        33.3
    """
    counted = matching.counted[0]
    objects = int(matching.objects.counted().sum())
    recalls = matching.correct[0][counted].cumsum() / max(objects, 1)
    return RankedDuplicates(recalls, errors.kind[counted] == DUPLICATE)
