"""CP-Cluster, which passes confidence between overlapping boxes (arXiv 2112.00342).

Weaker boxes that agree with a box raise its score, and a stronger box that overlaps it lowers its
score. The ``cpu`` backend runs a round in ``kernels/cp_cluster.py``. The ``eager`` backend runs it
for all groups of a padded batch together.

n: candidates, G: groups of one padded batch, L: candidates of the largest of these G groups.
"""

from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from postnms.config import Fraction
from postnms.suppression.overlaps import arrays, in_float32, overlap_matrix
from postnms.suppression.protocol import Kept, Padded, Ranked, Suppressor

STEP = 0.1
"""Increase of the IoU threshold from the first to the second round."""


class RoundSettings(NamedTuple):
    """Settings of one round of CP-Cluster, as the kernel takes them."""

    iou_threshold: float
    """IoU above which a stronger box may suppress a weaker one."""
    friend_threshold: float
    """IoU above which a weaker box supports a stronger one."""
    min_score: float
    """Candidates with a score below this do not take part."""
    closest: bool
    """The stronger box with the largest IoU suppresses, not the one with the best score."""


class CPCluster(Suppressor):
    """CP-Cluster (arXiv 2112.00342): two rounds of messages between all boxes of a group at once.

    Of two candidates the stronger one has the better score, or the lower row if the scores are
    equal. In each round the score S of each candidate changes twice. First the weaker candidates
    that overlap it with an IoU over ``friend_threshold``, its friends, raise it. If there are m
    friends, then S += (1 - S) * m / (m + 1) * (best score of a friend). Then one stronger candidate
    that overlaps it lowers it by S -= S * IoU.

    In the first round this is the strongest candidate with an IoU over ``iou_threshold``. In the
    second round it is the candidate with the largest IoU (ties: the stronger one) over
    ``iou_threshold`` + 0.1, except for the one that lowered this score in the first round. All
    messages of a round use the scores from before the round. Candidates that then have a score
    below ``min_score`` neither send nor receive, and candidates that end below it are dropped.
    Boxes do not change. Scores must be in [0, 1].
    """

    iou_threshold: Fraction = 0.5
    """IoU in [0, 1] above which a stronger box lowers a score in the first round."""
    friend_threshold: Fraction = 0.8
    """IoU in [0, 1] above which a weaker box raises a score."""
    min_score: Fraction = 0.01
    """Candidates with a score below this do not take part in a round, and are not kept."""

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the candidates with a new score of at least ``min_score``."""
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
    """Run one round.

    ``silenced`` (n,) int64 is the position of the candidate that lowered each score in the round
    before, -1 for none. Returns the new scores (n,) and the new ``silenced`` (n,).
    """
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import cp_cluster as kernels

        changed = np.empty(len(ranked), np.float32)
        given = (scores.numpy(), ranked.rows.numpy(), in_float32(settings), silenced.numpy())
        return torch.from_numpy(changed), torch.from_numpy(
            kernels.propagate(*arrays(ranked), *given, changed)
        )
    changed = scores.clone()
    suppressor = torch.full_like(silenced, -1)
    for batch in ranked.padded():
        new, by = _propagate_padded(ranked, batch, scores, silenced, settings)
        changed[batch.places[batch.real]] = new[batch.real]
        suppressor[batch.places[batch.real]] = by[batch.real]
    return changed, suppressor


def _propagate_padded(
    ranked: Ranked, batch: Padded, scores: Tensor, silenced: Tensor, settings: RoundSettings
) -> tuple[Tensor, Tensor]:
    """Run one round of the groups of one padded batch.

    Returns the new scores (G, L) and the positions (G, L) of the candidates that lowered them, -1
    for none.
    """
    threshold, friend_threshold, min_score, closest = settings
    places = batch.places
    score = scores[batch.places]
    row = ranked.rows[batch.places]
    iou = overlap_matrix(ranked, batch)
    taking_part = batch.real & (score >= min_score)
    met = taking_part[:, :, None] & taking_part[:, None, :]
    same = score[:, :, None] == score[:, None, :]
    # [:, i, j]: i is stronger than j.
    stronger = (score[:, :, None] > score[:, None, :]) | (
        same & (row[:, :, None] < row[:, None, :])
    )
    # [:, i, j]: j is a friend of i.
    friends = met & stronger & (iou > friend_threshold)
    count = friends.sum(dim=2)
    best_friend = torch.where(friends, score[:, None, :], 0.0).amax(dim=2)
    # [:, i, j]: i may lower the score of j.
    over = met & stronger & (iou > threshold) & (silenced[places][:, None, :] != places[:, :, None])
    # Sort i from strong to weak. The first of the largest values in a column is then the strongest
    # candidate, or of the closest candidates the strongest.
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
