"""CP-Cluster, which passes confidence between overlapping boxes (arXiv 2112.00342).

Weaker boxes that agree with a box raise its score and draw it nearer, and a stronger box that
overlaps it lowers its score. The ``cpu`` backend runs a round in ``kernels/cp_cluster.py``, and the
``triton`` backend in ``triton/cp_cluster.py``. The ``eager`` backend runs it for all groups of a
padded batch together.

n: candidates, G: groups of one padded batch, L: candidates of the largest of these G groups.
"""

from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from postnms.boxes import paired_iou
from postnms.config import Fraction
from postnms.suppression.overlaps import in_float32
from postnms.suppression.protocol import Kept, Padded, Ranked, Suppressor, kept_where


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
    move_boxes: bool
    """The best friend of a box draws it nearer."""


class _State(NamedTuple):
    """The candidates between two rounds, in the order of the ranking or in a padded batch."""

    boxes: Tensor
    """(n, 4) or (G, L, 4) float32, xyxy, pixels."""
    scores: Tensor
    """(n,) or (G, L) float32."""
    silenced: Tensor
    """(n,) or (G, L) int64: position of the candidate that lowered each score in the round before,
    and may not do it again. -1: none."""


class CPCluster(Suppressor):
    """CP-Cluster (arXiv 2112.00342): two rounds of messages between all boxes of a group at once.

    Of two candidates the stronger one has the better score, or the lower row if the scores are
    equal. In each round the score S of each candidate changes twice. First the weaker candidates
    that overlap it with an IoU over ``friend_threshold``, its friends, raise it. If there are m
    friends, then S += (1 - S) * m / (m + 1) * (score of the strongest friend). With ``move_boxes``
    the box moves to the mean of itself and that friend, weighted by the new S and the friend's
    score. Then one stronger candidate that overlaps it lowers it by S -= S * IoU.

    In the first round this is the strongest candidate with an IoU over ``iou_threshold``. In the
    second round it is the candidate with the largest IoU (ties: the stronger one) over
    ``iou_threshold`` + ``step``. Without ``repeat`` it may not be the one that lowered this score
    in the first round. All messages of a round use the scores and boxes from before the round.
    Candidates that then have a score below ``min_score`` neither send nor receive, and candidates
    that end below it are dropped. Scores must be in [0, 1].

    The settings are those of the authors' own calls: their code for mmcv is called with the third
    configuration of the paper (``step`` 0.2 and ``repeat``) and with moving boxes, which their code
    for CenterNet always has. ``iou_threshold`` and ``min_score`` are the defaults of the latter.
    The first configuration is ``step`` 0.1 without ``repeat``. Their code counts a friend from an
    IoU of the threshold on, and lets candidates with equal scores lower each other.
    """

    iou_threshold: Fraction = 0.5
    """IoU in [0, 1] above which a stronger box lowers a score in the first round."""
    friend_threshold: Fraction = 0.8
    """IoU in [0, 1] above which a weaker box raises a score."""
    step: Fraction = 0.2
    """Increase of ``iou_threshold`` from the first to the second round."""
    repeat: bool = True
    """Let a candidate lower the same score in both rounds."""
    move_boxes: bool = True
    """Let the strongest friend draw a box nearer."""
    min_score: Fraction = 0.01
    """Candidates with a score below this do not take part in a round, and are not kept."""

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the candidates with a new score of at least ``min_score``."""
        state = _State(ranked.boxes, ranked.scores, torch.full_like(ranked.rows, -1))
        first = RoundSettings(
            self.iou_threshold, self.friend_threshold, self.min_score, False, self.move_boxes
        )
        state = _propagate(ranked, state, first)
        if self.repeat:
            state = state._replace(silenced=torch.full_like(ranked.rows, -1))
        second = first._replace(iou_threshold=self.iou_threshold + self.step, closest=True)
        boxes, scores, _ = _propagate(ranked, state, second)
        return kept_where(scores >= self.min_score, boxes, scores)


def _propagate(ranked: Ranked, state: _State, settings: RoundSettings) -> _State:
    """Run one round of all groups."""
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import cp_cluster as kernels

        columns = np.ascontiguousarray(state.boxes.numpy().T)
        given = (state.scores.numpy(), ranked.rows.numpy(), in_float32(settings))
        moved, changed, suppressor = kernels.propagate(
            columns, ranked.starts.numpy(), *given, state.silenced.numpy()
        )
        return _State(*map(torch.from_numpy, (moved.T, changed, suppressor)))
    if ranked.backend == "triton":
        from postnms.suppression.triton import cp_cluster as kernels

        groups = (state.boxes.T.contiguous(), ranked.starts, ranked.group)
        given = (state.scores, ranked.rows, settings, state.silenced)
        moved, changed, suppressor = kernels.propagate(*groups, *given)
        return _State(moved.T, changed, suppressor)
    after = _State(*(column.clone() for column in state))
    for batch in ranked.padded():
        given = _State(*(column[batch.places] for column in state))
        found = _propagate_padded(batch, ranked.rows[batch.places], given, settings)
        for column, values in zip(after, found, strict=True):
            column[batch.places[batch.real]] = values[batch.real]
    return after


def _propagate_padded(batch: Padded, row: Tensor, given: _State, settings: RoundSettings) -> _State:
    """Run one round of the groups of one padded batch. ``row`` (G, L) decides equal scores."""
    boxes, score, silenced = given
    iou = paired_iou(boxes[:, :, None], boxes[:, None])
    taking_part = batch.real & (score >= settings.min_score)
    met = taking_part[:, :, None] & taking_part[:, None, :]
    order = _from_strong_to_weak(score, row)
    # [:, i, j]: i is stronger than j.
    place = torch.argsort(order, dim=1)
    stronger = place[:, :, None] < place[:, None, :]
    # [:, i, j]: i is a friend of j.
    friends = met & stronger.transpose(1, 2) & (iou > settings.friend_threshold)
    count = friends.sum(dim=1).to(score.dtype)
    friend, has_friend = _first_of_largest(friends, torch.ones_like(iou), order)
    weight = torch.where(has_friend, score.gather(1, friend), 0.0)
    raised = score + (1 - score) * (count / (count + 1)) * weight
    # [:, i, j]: i may lower the score of j.
    over = met & stronger & (iou > settings.iou_threshold)
    over &= silenced[:, None, :] != batch.places[:, :, None]
    chosen, suppressed = _first_of_largest(
        over, iou if settings.closest else torch.ones_like(iou), order
    )
    nearness = torch.where(suppressed, iou.gather(1, chosen[:, None, :]).squeeze(1), 0.0)
    new = torch.where(taking_part, raised - raised * nearness, score)
    by = torch.where(suppressed, batch.places.gather(1, chosen), -1)
    if not settings.move_boxes:
        return _State(boxes, new, by)
    total = raised + weight
    drawn = boxes * raised[..., None] + _rows(boxes, friend) * weight[..., None]
    moves = (has_friend & (total > 0))[..., None]
    return _State(torch.where(moves, drawn / total[..., None], boxes), new, by)


def _from_strong_to_weak(score: Tensor, row: Tensor) -> Tensor:
    """Return the columns (G, L) int64 by falling score, of equal scores the lower row first."""
    order = torch.argsort(row, dim=1, stable=True)
    by_score = torch.argsort(score.gather(1, order), dim=1, descending=True, stable=True)
    return order.gather(1, by_score)


def _first_of_largest(allowed: Tensor, value: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each j the i with the largest value (G, L, L) [:, i, j] among the allowed ones.

    Of equal values the first one in ``order`` (G, L) is returned. The second result (G, L) bool is
    False where no i is allowed, and the first one (G, L) int64 is then meaningless.
    """
    by_order = order[:, :, None].expand_as(allowed)
    sorted_value = torch.where(allowed, value, -1.0).gather(1, by_order)
    largest = sorted_value.amax(dim=1, keepdim=True)
    first = (sorted_value == largest).to(torch.uint8).argmax(dim=1)
    return order.gather(1, first), allowed.any(dim=1)


def _rows(boxes: Tensor, index: Tensor) -> Tensor:
    """Return the boxes (G, L, 4) at the columns ``index`` (G, L) of their groups."""
    return boxes.gather(1, index[..., None].expand(-1, -1, 4))
