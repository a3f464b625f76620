"""Greedy NMS, and its variants that keep boxes as they are.

The variants change the overlap measure, the threshold, the order, or the pairs that may suppress
each other. All of them cluster the candidates with :func:`postnms.suppression.overlaps.owners` and
keep the keys.

n: candidates, d: detections.
"""

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from postnms.config import Fraction
from postnms.structures import Candidates
from postnms.suppression.overlaps import is_key, owners
from postnms.suppression.pairs import max_by
from postnms.suppression.protocol import Kept, Ranked, Suppressor, kept_as_they_are, kept_where


class NoSuppression(Suppressor):
    """Keep all candidates up to the limit of detections, as the baseline of other suppressors.

    Boxes and scores do not change. There are no settings besides those of every suppressor.
    """

    def suppress(self, ranked: Ranked) -> Kept:
        """Return all candidates, unchanged."""
        return kept_as_they_are(ranked, torch.arange(len(ranked), device=ranked.rows.device))


class GreedyNMS(Suppressor):
    """By falling score, drop each box that a kept box overlaps by IoU (``iou``) or IoS (``ios``).

    This is the NMS that most detectors use. Candidates of a group are visited by falling score. A
    candidate is dropped if an earlier kept box overlaps it by more than the threshold. The kept
    boxes, the keys, keep their boxes and scores.

    Example:
        >>> import torch
        >>> from postnms import Candidates
        >>> from postnms.suppression.greedy import GreedyNMS
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 8, 10], [50, 0, 60, 10]])
        >>> scores = torch.tensor([0.75, 0.25, 0.5])
        >>> zeros = torch.zeros(3, dtype=torch.int64)
        >>> candidates = Candidates(boxes, scores, zeros, zeros, torch.arange(3), num_images=1)
        >>> detections = GreedyNMS(iou_threshold=0.5)(candidates)
        >>> detections.scores.tolist(), detections.source.tolist()
        ([0.75, 0.5], [0, 2])
    """

    iou_threshold: Fraction = 0.5
    """Overlap in [0, 1] above which a kept box suppresses another one, in the measure
    ``overlap``."""
    overlap: Literal["iou", "ios"] = "iou"
    """Measure of the overlap. ``iou``: intersection over union. ``ios``: intersection over the area
    of the smaller box, so that a small box inside a large one overlaps it fully."""

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the keys, unchanged."""
        return _keys(ranked, owners(ranked, self.iou_threshold, self.overlap))


class DIoUNMS(Suppressor):
    """Greedy NMS that drops a box if IoU - (rho^2 / c^2)^beta is over the threshold (DIoU-NMS).

    rho is the distance of the two centres, and c is the diagonal of the smallest box around both
    boxes (arXiv 1911.08287). Boxes with distant centres therefore suppress each other less. The
    keys keep their boxes and scores. The paper has no power, as with ``beta`` 1. The authors' codes
    for YOLO have 0.6.
    """

    iou_threshold: Fraction = 0.5
    """Value of the criterion, in [0, 1], above which a kept box suppresses another one."""
    beta: PositiveFloat = 1.0
    """Power of the relative distance of the centres. A larger one lessens the effect of the
    distance."""

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the keys, unchanged."""
        return _keys(ranked, owners(ranked, self.iou_threshold, "diou", beta=self.beta))


class SetNMS(Suppressor):
    """Greedy NMS where boxes of one ``source`` never suppress each other (arXiv 2003.09163).

    The ``source`` is the proposal that a candidate was decoded from. In CrowdDet (section 3.3 of
    the paper) a proposal predicts a set of different objects, so its boxes may overlap. The keys
    keep their boxes and scores.
    """

    iou_threshold: Fraction = 0.5
    """IoU in [0, 1] above which a kept box suppresses a box of another source."""

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the keys, unchanged."""
        return _keys(ranked, owners(ranked, self.iou_threshold, separate=ranked.candidates.source))


class AdaptiveNMS(Suppressor):
    """Greedy NMS with a threshold of max(threshold, ``density``) for each key (arXiv 1904.03629).

    This is Eq. 4 of the paper. The extra column ``density`` (n,) is the predicted largest IoU of
    the candidate's object with another object. A key in a crowd therefore suppresses less. The keys
    keep their boxes and scores.
    """

    iou_threshold: Fraction = 0.5
    """Smallest IoU in [0, 1] above which a key may suppress another box."""

    columns: ClassVar[dict[str, int]] = {"density": 1}

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the keys, unchanged."""
        return _keys(
            ranked, owners(ranked, ranked.candidates.extra["density"].clamp(min=self.iou_threshold))
        )


class IoUGuidedNMS(Suppressor):
    """Greedy NMS by the predicted ``iou`` instead of the score (IoU-Net, arXiv 1807.11590).

    This is algorithm 1 of arXiv 1807.11590. The extra column ``iou`` (n,) is the predicted IoU of
    each candidate with its object, so the best located box of a cluster becomes its key. A key
    keeps its box and gets the best score of its cluster.
    """

    iou_threshold: Fraction = 0.5
    """IoU in [0, 1] above which a kept box suppresses another one."""

    columns: ClassVar[dict[str, int]] = {"iou": 1}

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the keys with the best scores of their clusters."""
        owner = owners(ranked, self.iou_threshold)
        return kept_where(is_key(owner), ranked.boxes, max_by(ranked.scores, owner, len(owner)))

    def rank_by(self, candidates: Candidates) -> Tensor:
        """Return the predicted IoU (n,)."""
        return candidates.extra["iou"]


def _keys(ranked: Ranked, owner: Tensor) -> Kept:
    return kept_as_they_are(ranked, is_key(owner))
