"""CP-Cluster: confidence goes up from friends and down to neighbours (arXiv 2112.00342).

n: candidates, L: candidates of the largest of G groups.
"""

from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from postnms.config import Fraction
from postnms.suppression.overlaps import arrays, in_float32, overlap_matrix
from postnms.suppression.protocol import Kept, Padded, Ranked, Suppressor

STEP = 0.1
"""How much higher the threshold of the second round is."""


class RoundSettings(NamedTuple):
    """What one round of CP-Cluster needs to know."""

    iou_threshold: float
    """A stronger box suppresses what it overlaps by more than this."""
    friend_threshold: float
    """A weaker box supports what it overlaps by more than this."""
    min_score: float
    """Boxes that score less take no part."""
    closest: bool
    """The closest stronger box suppresses, in place of the strongest one."""


class CPCluster(Suppressor):
    """Two rounds of messages between boxes of a group, all boxes at once.

    Up: S += (1 - S) * n / (n + 1) * (best score of n), for the n weaker boxes with IoU over ``friend_threshold``.
    Then down: S -= S * IoU with one stronger box that overlaps it over the threshold: the strongest in the first
    round; in the second the closest that has not suppressed it yet, over the threshold + 0.1. Boxes under
    ``min_score`` neither send nor receive, and are dropped at the end.
    """

    iou_threshold: Fraction = 0.5
    friend_threshold: Fraction = 0.8
    min_score: Fraction = 0.01

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """All that still score enough, with the new scores."""
        scores = ranked.scores
        silenced = torch.full_like(ranked.rows, -1)
        for closest in (False, True):
            threshold = self.iou_threshold + (STEP if closest else 0.0)
            settings = RoundSettings(threshold, self.friend_threshold, self.min_score, closest)
            scores, silenced = _propagate(ranked, scores, silenced, settings)
        kept = (scores >= self.min_score).nonzero().squeeze(1)
        return Kept(kept, ranked.boxes[kept], scores[kept])


def _propagate(
    ranked: Ranked, scores: Tensor, silenced: Tensor, settings: RoundSettings
) -> tuple[Tensor, Tensor]:
    """One round: new scores (n,), and the place of what suppressed each candidate, -1 for nothing."""
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import cp_cluster as kernels

        changed = np.empty(len(ranked), np.float32)
        given = (scores.numpy(), ranked.rows.numpy(), in_float32(settings), silenced.numpy())
        return torch.from_numpy(changed), torch.from_numpy(
            kernels.propagate(*arrays(ranked), *given, changed)
        )
    changed, suppressor = scores.clone(), torch.full_like(silenced, -1)
    for some in ranked.padded():
        new, by = _propagate_padded(ranked, some, scores, silenced, settings)
        changed[some.places[some.real]], suppressor[some.places[some.real]] = (
            new[some.real],
            by[some.real],
        )
    return changed, suppressor


def _propagate_padded(
    ranked: Ranked, some: Padded, scores: Tensor, silenced: Tensor, settings: RoundSettings
) -> tuple[Tensor, Tensor]:
    threshold, friendly, least, closest = settings
    places, score, row = some.places, scores[some.places], ranked.rows[some.places]
    iou = overlap_matrix(ranked, some)
    taking_part = some.real & (score >= least)
    met = taking_part[:, :, None] & taking_part[:, None, :]
    same = score[:, :, None] == score[:, None, :]
    stronger = (score[:, :, None] > score[:, None, :]) | (
        same & (row[:, :, None] < row[:, None, :])
    )
    friends = (
        met & stronger & (iou > friendly)
    )  # seen from the stronger: who comes second is a friend
    count = friends.sum(dim=2)
    best_friend = torch.where(friends, score[:, None, :], 0.0).amax(dim=2)
    over = met & stronger & (iou > threshold) & (silenced[places][:, None, :] != places[:, :, None])
    # From strong to weak, the first of the largest is the strongest, or the closest and then the strongest.
    order = torch.argsort(row, dim=1, stable=True)
    order = order.gather(
        1, torch.argsort(score.gather(1, order), dim=1, descending=True, stable=True)
    )
    sorted_over = over.gather(1, order[:, :, None].expand_as(over))
    sorted_iou = iou.gather(1, order[:, :, None].expand_as(iou))
    value = torch.where(sorted_over, sorted_iou if closest else 1.0, -1.0)
    chosen = order.gather(
        1, (value == value.amax(dim=1, keepdim=True)).to(torch.uint8).argmax(dim=1)
    )
    suppressed = over.any(dim=1)
    nearness = torch.where(suppressed, iou.gather(1, chosen[:, None, :]).squeeze(1), 0.0)
    raised = score + (1 - score) * (count / (count + 1)) * best_friend
    new = torch.where(taking_part, raised - raised * nearness, score)
    return new, torch.where(suppressed, places.gather(1, chosen), -1)
