"""Greedy NMS, what detectors do today, and its relatives that keep boxes and scores as they are.

k: clusters, d: detections.
"""

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from postnms.config import Fraction
from postnms.structures import Candidates
from postnms.suppression.overlaps import is_key, owners
from postnms.suppression.pairs import max_by
from postnms.suppression.protocol import Kept, Ranked, Suppressor, kept_as_they_are


class NoSuppression(Suppressor):
    """All candidates, up to the limit of detections: what the others have to beat."""

    def suppress(self, ranked: Ranked) -> Kept:
        """Everything."""
        return kept_as_they_are(ranked, torch.arange(len(ranked), device=ranked.rows.device))


class GreedyNMS(Suppressor):
    """By falling score, drop what overlaps a kept box; ``ios`` measures the overlap over the smaller box."""

    iou_threshold: Fraction = 0.5
    overlap: Literal["iou", "ios"] = "iou"

    def suppress(self, ranked: Ranked) -> Kept:
        """The keys."""
        return _keys(ranked, owners(ranked, self.iou_threshold, self.overlap))


class DIoUNMS(Suppressor):
    """Greedy NMS where a box is dropped if IoU - (rho^2 / c^2)^beta is over the threshold (arXiv 1911.08287).

    rho: distance of the centres, c: diagonal of the box around both.
    """

    iou_threshold: Fraction = 0.5
    beta: PositiveFloat = 1.0

    def suppress(self, ranked: Ranked) -> Kept:
        """The keys."""
        return _keys(ranked, owners(ranked, self.iou_threshold, "diou", beta=self.beta))


class SetNMS(Suppressor):
    """Greedy NMS where boxes of one ``source`` never suppress each other (CrowdDet, arXiv 2003.09163, section 3.3)."""

    iou_threshold: Fraction = 0.5

    def suppress(self, ranked: Ranked) -> Kept:
        """The keys."""
        return _keys(ranked, owners(ranked, self.iou_threshold, separate=ranked.candidates.source))


class AdaptiveNMS(Suppressor):
    """Greedy NMS where each key suppresses over max(threshold, its ``density``) (arXiv 1904.03629, Eq. 4).

    ``density``: the predicted largest IoU of the key's object with another object.
    """

    iou_threshold: Fraction = 0.5

    columns: ClassVar[dict[str, int]] = {"density": 1}

    def suppress(self, ranked: Ranked) -> Kept:
        """The keys."""
        return _keys(
            ranked, owners(ranked, ranked.candidates.extra["density"].clamp(min=self.iou_threshold))
        )


class IoUGuidedNMS(Suppressor):
    """Greedy NMS by the predicted ``iou`` instead of the score (IoU-Net, arXiv 1807.11590, algorithm 1).

    A key takes the best score of what it owns.
    """

    iou_threshold: Fraction = 0.5

    columns: ClassVar[dict[str, int]] = {"iou": 1}

    def suppress(self, ranked: Ranked) -> Kept:
        """The keys, with the best scores of their clusters."""
        owner = owners(ranked, self.iou_threshold)
        keys = is_key(owner).nonzero().squeeze(1)
        return Kept(keys, ranked.boxes[keys], max_by(ranked.scores, owner, len(owner))[keys])

    def rank_by(self, candidates: Candidates) -> Tensor:
        """The predicted IoU."""
        return candidates.extra["iou"]


def _keys(ranked: Ranked, owner: Tensor) -> Kept:
    return kept_as_they_are(ranked, is_key(owner))
