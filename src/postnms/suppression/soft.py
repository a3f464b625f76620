"""Soft-NMS and variance voting: select the best score, lower what overlaps it, select again.

n: candidates, L: candidates of the largest of G groups.
"""

from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from postnms.boxes import paired_iou
from postnms.config import Fraction
from postnms.suppression.overlaps import arrays, in_float32
from postnms.suppression.protocol import Kept, Padded, Ranked, Suppressor

METHODS = ("hard", "linear", "gaussian")
HARD, LINEAR, GAUSSIAN = range(len(METHODS))


class SoftSettings(NamedTuple):
    """What the rounds of Soft-NMS need to know."""

    method: int
    """Position in ``METHODS``."""
    iou_threshold: float
    sigma: float
    min_score: float
    """Candidates that score less are dropped."""
    vote_sigma: float = 1.0
    vote_iou: float = 1.0
    """Voters overlap the selected box by more than this."""


class SoftNMS(Suppressor):
    """Soft-NMS (arXiv 1704.04503): the maximum of the *current* scores is selected in every round.

    What overlaps it decays: ``linear``: by 1 - IoU over the threshold; ``gaussian``: by exp(-IoU^2 / sigma);
    ``hard``: to nothing over the threshold, which is greedy NMS. A candidate is dropped once it scores under
    ``min_score``. Scores never rise.
    """

    method: Literal["hard", "linear", "gaussian"] = "linear"
    iou_threshold: Fraction = 0.3
    sigma: PositiveFloat = 0.5
    min_score: Fraction = 0.001

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """What was selected, with the score that it had then."""
        settings = SoftSettings(
            METHODS.index(self.method), self.iou_threshold, self.sigma, self.min_score
        )
        return _soften(ranked, settings, ranked.boxes.new_zeros(0, 4))


class VarianceVoting(Suppressor):
    """Variance voting in a Gaussian Soft-NMS, "Softer-NMS" (arXiv 1809.08545, algorithm 1).

    Needs ``edge_log_variance`` (n, 4), of left, top, right and bottom. When a box is selected, each of its edges
    becomes the mean of that edge over the boxes not yet selected that overlap it by more than ``vote_iou``, weighted
    by exp(-(1 - IoU)^2 / vote_sigma) / variance. Overlaps are of the boxes as they were. Edges that cross, since each
    has its own weights, change places.
    """

    sigma: PositiveFloat = 0.5
    min_score: Fraction = 0.001
    vote_sigma: PositiveFloat = 0.01
    vote_iou: Annotated[float, Field(ge=0, lt=1)] = 0.01

    columns: ClassVar[dict[str, int]] = {"edge_log_variance": 4}
    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """What was selected, with the score and the edges that it had then."""
        settings = SoftSettings(
            GAUSSIAN, 0.0, self.sigma, self.min_score, self.vote_sigma, self.vote_iou
        )
        return _soften(ranked, settings, ranked.candidates.extra["edge_log_variance"])


def _soften(ranked: Ranked, settings: SoftSettings, log_variance: Tensor) -> Kept:
    """``log_variance`` (n, 4), or (0, 4) for no vote."""
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import soft as kernels

        scores, rows = ranked.scores.numpy(), ranked.rows.numpy()
        final, voted = np.empty(len(ranked), np.float32), np.empty((4, len(ranked)), np.float32)
        edges = np.ascontiguousarray(log_variance.numpy().T)
        kernels.soften(*arrays(ranked), scores, rows, in_float32(settings), edges, voted, final)
        score, boxes = torch.from_numpy(final), torch.from_numpy(voted.T)
    else:
        score, boxes = torch.full_like(ranked.scores, -1), ranked.boxes.clone()
        for some in ranked.padded():
            _soften_padded(ranked, some, settings, log_variance, score, boxes)
    places = (score >= 0).nonzero().squeeze(1)
    if not len(log_variance):
        return Kept(places, ranked.boxes[places], score[places])
    edges = boxes[places]
    upright = torch.cat(
        [torch.minimum(edges[:, :2], edges[:, 2:]), torch.maximum(edges[:, :2], edges[:, 2:])],
        dim=1,
    )
    return Kept(places, upright, score[places])


def _soften_padded(
    ranked: Ranked,
    some: Padded,
    settings: SoftSettings,
    log_variance: Tensor,
    score: Tensor,
    voted: Tensor,
) -> None:
    """One round a candidate of the longest group; fills ``score`` and ``voted`` of what is selected."""
    boxes, rows = ranked.boxes[some.places], ranked.rows[some.places]
    current = ranked.scores[some.places]
    alive = some.real & (current >= settings.min_score)
    while bool(alive.any()):
        top = torch.where(alive, current, -1.0).amax(dim=1, keepdim=True)
        best = torch.where(alive & (current == top), rows, len(ranked)).argmin(dim=1, keepdim=True)
        going = alive.any(dim=1)
        iou = paired_iou(boxes.gather(1, best[..., None].expand(-1, -1, 4)), boxes)
        chosen = some.places.gather(1, best)[going].squeeze(1)
        score[chosen] = current.gather(1, best)[going].squeeze(1)
        if len(log_variance):
            voted[chosen] = _votes(boxes, iou, best, alive, log_variance[some.places], settings)[
                going
            ]
        alive.scatter_(1, best, False)
        current = _decayed(current, iou, settings)
        alive &= current >= settings.min_score


def _decayed(current: Tensor, iou: Tensor, settings: SoftSettings) -> Tensor:
    if settings.method == GAUSSIAN:
        return current * torch.exp(-(iou * iou) / settings.sigma)
    lowered = current * (1 - iou) if settings.method == LINEAR else -1.0
    return torch.where(iou > settings.iou_threshold, lowered, current)


def _votes(
    boxes: Tensor,
    iou: Tensor,
    best: Tensor,
    alive: Tensor,
    log_variance: Tensor,
    settings: SoftSettings,
) -> Tensor:
    """(G, 4): the edges of the selected boxes ``best`` (G, 1) by vote."""
    away = (1 - iou).scatter(1, best, 0.0)
    voters = alive & (iou > settings.vote_iou).scatter(1, best, True)
    exponent = (-(away * away) / settings.vote_sigma)[..., None] - log_variance
    exponent = torch.where(voters[..., None], exponent, -torch.inf)
    # A common factor cancels out, so the largest may be 1: nothing overflows, nor do all weights vanish.
    weights = torch.exp(exponent - exponent.amax(dim=1, keepdim=True))
    return (weights * boxes).sum(dim=1) / weights.sum(dim=1)
