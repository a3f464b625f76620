"""Suppressors that keep what greedy NMS keeps, and move or re-score it by what it overlaps.

n: candidates, p: pairs of a key and an overlapping candidate, itself included.
"""

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from postnms.boxes import area
from postnms.config import Fraction, Positive
from postnms.suppression.overlaps import best_owners, is_key, overlapping, owners
from postnms.suppression.pairs import Pairs, max_by, mean_boxes, members_of, sum_by
from postnms.suppression.protocol import Kept, Ranked, Suppressor

ScoreMethod = Literal["id", "avg", "iou_avg", "generalized_avg", "quasi_sum", "temp_avg"]


class BoxVoting(Suppressor):
    """Box voting (arXiv 1505.01749, section 5): a kept box becomes the mean, by score, of what overlaps it strongly.

    Voters: all candidates of the group with IoU over ``vote_threshold``, suppressed by this key or not. The score
    stays (``id``) or becomes the voters' mean (``avg``), their mean by IoU (``iou_avg``), (mean s^beta)^(1/beta)
    (``generalized_avg``), sum / count^beta (``quasi_sum``), or the mean of s^(1/beta) / (s^(1/beta) + (1-s)^(1/beta))
    (``temp_avg``): the methods of Detectron.
    """

    iou_threshold: Fraction = 0.5
    vote_threshold: Fraction = 0.8
    score_method: ScoreMethod = "id"
    beta: PositiveFloat = 1.0

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """The keys, moved and re-scored by their voters."""
        keys = is_key(owners(ranked, self.iou_threshold))
        voters = overlapping(ranked, keys, self.vote_threshold)
        boxes = mean_boxes(ranked, voters, ranked.scores[voters.second])
        return Kept(keys.nonzero().squeeze(1), boxes[keys], self._scores(ranked, voters)[keys])

    def _scores(self, ranked: Ranked, voters: Pairs) -> Tensor:
        if self.score_method == "id":
            return ranked.scores
        scores, first, size = ranked.scores[voters.second], voters.first, len(ranked)
        count = sum_by(torch.ones_like(scores), first, size).clamp(min=1)
        if self.score_method == "iou_avg":
            iou = torch.where(voters.first == voters.second, 1.0, voters.overlap)
            return sum_by(iou * scores, first, size) / sum_by(iou, first, size).clamp(min=1)
        if self.score_method == "generalized_avg":
            most = max_by(scores, first, size).clamp(min=torch.finfo(torch.float32).tiny)
            shares = (
                sum_by((scores / most[first]) ** self.beta, first, size) / count
            )  # of the largest: none vanishes
            return most * shares ** (1 / self.beta)
        if self.score_method == "quasi_sum":
            return sum_by(scores, first, size) / count**self.beta
        if self.score_method == "temp_avg":
            scores = torch.sigmoid(torch.logit(scores) / self.beta)
        return sum_by(scores, first, size) / count


class MergeNMS(Suppressor):
    """Greedy NMS, then each kept box is the mean, by score, of all that overlaps it by more than the threshold."""

    iou_threshold: Fraction = 0.5

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """The keys, moved."""
        keys = is_key(owners(ranked, self.iou_threshold))
        pairs = overlapping(ranked, keys, self.iou_threshold)
        boxes = mean_boxes(ranked, pairs, ranked.scores[pairs.second])
        return Kept(keys.nonzero().squeeze(1), boxes[keys], ranked.scores[keys])


class NMW(Suppressor):
    """Non-maximum weighted (CAD, ICCV workshops 2017): a kept box is the mean of its cluster by score * IoU with it.

    A candidate belongs to the ``first`` key that overlaps it, or to the one that overlaps it ``best``.
    """

    iou_threshold: Fraction = 0.55
    belongs_to: Literal["best", "first"] = "best"

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """The keys, moved."""
        owner = owners(ranked, self.iou_threshold)
        keys = is_key(owner)
        if self.belongs_to == "best":
            owner = best_owners(ranked, keys, self.iou_threshold)
        members = members_of(ranked, owner)
        boxes = mean_boxes(ranked, members, ranked.scores * members.overlap)
        return Kept(keys.nonzero().squeeze(1), boxes[keys], ranked.scores[keys])


class NonMaxMerge(Suppressor):
    """Each cluster of greedy NMS becomes the box around all its members, with the key's score (SAHI, supervision)."""

    iou_threshold: Fraction = 0.5
    overlap: Literal["iou", "ios"] = "iou"

    def suppress(self, ranked: Ranked) -> Kept:
        """The boxes around the clusters."""
        owner = owners(ranked, self.iou_threshold, self.overlap)
        rows = owner[:, None].expand(-1, 2)
        least = ranked.boxes[:, :2].scatter_reduce(0, rows, ranked.boxes[:, :2], "amin")
        most = ranked.boxes[:, 2:].scatter_reduce(0, rows, ranked.boxes[:, 2:], "amax")
        keys = is_key(owner)
        return Kept(
            keys.nonzero().squeeze(1), torch.cat([least, most], dim=1)[keys], ranked.scores[keys]
        )


class WBC(Suppressor):
    """Weighted box clustering (Retina U-Net, arXiv 1811.08661, section 2.3).

    Each member of a cluster of greedy NMS weighs w = IoU with the key * area; the box is the mean by score * w, the
    score sum(score * w) / (sum(w) + missing * mean(w)), where ``missing`` = ``expected_votes`` - members, at least 0:
    an object that only some of the expected (models, views) found is less sure.
    """

    iou_threshold: Fraction = 0.5
    expected_votes: Positive = 1

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """The means of the clusters."""
        members = members_of(ranked, owners(ranked, self.iou_threshold))
        weights = members.overlap * area(ranked.boxes)
        boxes = mean_boxes(ranked, members, ranked.scores * weights)
        count = sum_by(torch.ones_like(weights), members.first, len(ranked)).clamp(min=1)
        total = sum_by(weights, members.first, len(ranked))
        missing = (self.expected_votes - count).clamp(min=0)
        votes = sum_by(weights * ranked.scores, members.first, len(ranked))
        keys = members.first == members.second
        # A cluster without an area has no weights: its key speaks for it.
        scores = torch.where(total > 0, votes / (total * (1 + missing / count)), ranked.scores)
        return Kept(keys.nonzero().squeeze(1), boxes[keys], scores[keys])
