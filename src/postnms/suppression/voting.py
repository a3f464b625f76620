"""Suppressors that keep the keys of greedy NMS, and move or re-score them.

Each of them clusters the candidates with :func:`postnms.suppression.overlaps.owners`, and then
replaces the box or the score of each key by a mean over the candidates that support it.

n: candidates, p: pairs of a key and a candidate that supports it. A key supports itself.
"""

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from postnms.boxes import area
from postnms.config import Fraction, Positive
from postnms.suppression.overlaps import best_owners, is_key, overlapping, owners
from postnms.suppression.pairs import Pairs, max_by, mean_boxes, members_of, sum_by
from postnms.suppression.protocol import Kept, Ranked, Suppressor, kept_where

ScoreMethod = Literal["id", "avg", "iou_avg", "generalized_avg", "quasi_sum", "temp_avg"]
"""How box voting computes the score of a key. See :class:`BoxVoting`."""


class BoxVoting(Suppressor):
    """Box voting: move each kept box to the mean, by score, of the boxes that overlap it strongly.

    The source is arXiv 1505.01749, section 5. The kept boxes are the keys of greedy NMS. The voters
    of a key are all candidates of its group that overlap it with an IoU over ``vote_threshold``,
    whichever key suppressed them, and the key itself. Its box becomes the mean of their boxes,
    weighted by score. Its score s_key becomes, by ``score_method``, one of these functions of the
    scores s of the voters (the methods of Detectron):

    - ``id``: s_key, unchanged.
    - ``avg``: mean(s).
    - ``iou_avg``: mean(s), weighted by the IoU with the key.
    - ``generalized_avg``: mean(s^beta)^(1 / beta).
    - ``quasi_sum``: sum(s) / count^beta, which may exceed 1 if beta is below 1.
    - ``temp_avg``: mean(s^(1 / beta) / (s^(1 / beta) + (1 - s)^(1 / beta))).

    Scores must be in [0, 1]. The settings of the vote are the defaults of Detectron, which counts a
    voter from an IoU of the threshold on and has boxes that are one pixel wider and higher.

    Example:
        >>> import torch
        >>> from postnms import Candidates
        >>> from postnms.suppression.voting import BoxVoting
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 8, 10]])
        >>> scores = torch.tensor([0.75, 0.25])
        >>> zeros = torch.zeros(2, dtype=torch.int64)
        >>> candidates = Candidates(boxes, scores, zeros, zeros, torch.arange(2), num_images=1)
        >>> detections = BoxVoting(vote_threshold=0.5)(candidates)
        >>> detections.boxes.tolist(), detections.scores.tolist()
        ([[0.0, 0.0, 9.5, 10.0]], [0.75])
    """

    iou_threshold: Fraction = 0.5
    """IoU in [0, 1] above which a key suppresses another box."""
    vote_threshold: Fraction = 0.8
    """IoU in [0, 1] with the key above which a candidate votes."""
    score_method: ScoreMethod = "id"
    """How the score of a key is computed from the scores of its voters."""
    beta: PositiveFloat = 1.0
    """Exponent of ``generalized_avg`` and ``quasi_sum``, and temperature of ``temp_avg``. No other
    method uses it."""

    needs_probabilities: ClassVar[bool] = True

    def idle_fields(self) -> dict[str, str]:
        """Return ``beta`` for the methods that have no exponent."""
        idle = self.score_method in ("id", "avg", "iou_avg")
        return {"beta": f"with score_method={self.score_method!r}"} if idle else {}

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the keys, moved and re-scored by their voters."""
        keys = is_key(owners(ranked, self.iou_threshold))
        voters = overlapping(ranked, keys, self.vote_threshold)
        boxes = mean_boxes(ranked, voters, ranked.scores[voters.second])
        return kept_where(keys, boxes, self._scores(ranked, voters))

    def _scores(self, ranked: Ranked, voters: Pairs) -> Tensor:
        """Return the new score (n,) of each candidate. Only the scores of keys are meaningful."""
        if self.score_method == "id":
            return ranked.scores
        scores = ranked.scores[voters.second]
        first = voters.first
        size = len(ranked)
        count = sum_by(torch.ones_like(scores), first, size).clamp(min=1)
        if self.score_method == "iou_avg":
            # A key without an area has an IoU of 0 with itself, but it is a full voter.
            iou = torch.where(voters.first == voters.second, 1.0, voters.overlap)
            return sum_by(iou * scores, first, size) / sum_by(iou, first, size).clamp(min=1)
        if self.score_method == "generalized_avg":
            # Scores are divided by the largest one, since a large power of a small score would be
            # 0.
            largest = max_by(scores, first, size).clamp(min=torch.finfo(torch.float32).tiny)
            shares = sum_by((scores / largest[first]) ** self.beta, first, size) / count
            return largest * shares ** (1 / self.beta)
        if self.score_method == "quasi_sum":
            return sum_by(scores, first, size) / count**self.beta
        if self.score_method == "temp_avg":
            # The formula of the class equals the sigmoid of the logit over the temperature.
            scores = torch.sigmoid(torch.logit(scores) / self.beta)
        return sum_by(scores, first, size) / count


class MergeNMS(Suppressor):
    """Greedy NMS, then move each kept box to the mean, by score, of all boxes that it overlaps.

    The mean is over all candidates of the group that overlap the key with an IoU over the
    threshold, whichever key suppressed them, and over the key itself. The weights are the scores,
    which must be in [0, 1]. A key keeps its score. This is the option ``merge`` of YOLOv5, without
    its rule that a key is dropped if it overlaps no other box. Its thresholds go from 0.45 to 0.65.
    """

    iou_threshold: Fraction = 0.5
    """IoU in [0, 1] above which a key suppresses another box, and above which that box counts in
    the mean."""

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the keys with their mean boxes and unchanged scores."""
        keys = is_key(owners(ranked, self.iou_threshold))
        pairs = overlapping(ranked, keys, self.iou_threshold)
        boxes = mean_boxes(ranked, pairs, ranked.scores[pairs.second])
        return kept_where(keys, boxes, ranked.scores)


class NMW(Suppressor):
    """Non-maximum weighted: move each kept box to the mean, by score * IoU with it, of its cluster.

    The source is CAD (ICCV workshops 2017). The kept boxes are the keys of greedy NMS. A key keeps
    its score. Scores must be in [0, 1]. The settings give the results of the package
    ``ensemble-boxes``.
    """

    iou_threshold: Fraction = 0.55
    """IoU in [0, 1] above which a key suppresses another box."""
    belongs_to: Literal["best", "first"] = "best"
    """The cluster of a suppressed candidate. ``first``: that of the first key that overlaps it over
    the threshold. ``best``: that of the key ranked ahead of it that has the largest IoU with it."""

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the keys with their mean boxes and unchanged scores."""
        owner = owners(ranked, self.iou_threshold)
        keys = is_key(owner)
        if self.belongs_to == "best":
            owner = best_owners(ranked, keys, self.iou_threshold)
        members = members_of(ranked, owner)
        boxes = mean_boxes(ranked, members, ranked.scores * members.overlap)
        return kept_where(keys, boxes, ranked.scores)


class WBC(Suppressor):
    """Weighted box clustering (Retina U-Net, arXiv 1811.08661, section 2.3).

    Each member of a cluster of greedy NMS has the weight w = (IoU with the key) * (area in square
    pixels). The box of the cluster is the mean of its members by score * w. Its score is
    sum(score * w) / (sum(w) + missing * mean(w)), where missing = max(``expected_votes`` - members,
    0). An object that only few of the expected models or views detect therefore gets a lower score.
    Scores must be in [0, 1].

    The authors' code clusters at an IoU of 1e-5, weighs down boxes far from the centre of their
    patch of the image, counts the patches that vote instead of the members, and drops clusters with
    a score up to 0.01. The library lsnms clusters at 0.5, by default without weights.
    """

    iou_threshold: Fraction = 0.5
    """IoU in [0, 1] above which a key owns another box."""
    expected_votes: Positive = 1
    """Number of boxes that an object gets if every model and every view of the image detects it."""

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the keys with the mean boxes and the scores of their clusters."""
        members = members_of(ranked, owners(ranked, self.iou_threshold))
        weights = members.overlap * area(ranked.boxes)
        boxes = mean_boxes(ranked, members, ranked.scores * weights)
        count = sum_by(torch.ones_like(weights), members.first, len(ranked)).clamp(min=1)
        total = sum_by(weights, members.first, len(ranked))
        missing = (self.expected_votes - count).clamp(min=0)
        votes = sum_by(weights * ranked.scores, members.first, len(ranked))
        keys = members.first == members.second
        # mean(w) = sum(w) / count, so the denominator is sum(w) * (1 + missing / count). A cluster
        # whose weights are all 0 has no area, and its key keeps its score.
        scores = torch.where(total > 0, votes / (total * (1 + missing / count)), ranked.scores)
        return kept_where(keys, boxes, scores)
