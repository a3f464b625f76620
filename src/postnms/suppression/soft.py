"""Soft-NMS and variance voting, which lower the scores of overlapping boxes in rounds.

Both run in rounds over each group: select the candidate with the best current score, lower the
scores of the candidates that overlap it, and select again. The ``cpu`` backend runs the rounds in
``kernels/soft.py``, and the ``triton`` backend in ``triton/soft.py``. The ``eager`` backend runs
one round of all groups of a padded batch together.

n: candidates, G: groups of one padded batch, L: candidates of the largest of these G groups.
"""

from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from postnms.boxes import paired_iou
from postnms.config import Fraction
from postnms.suppression.overlaps import arrays, columns, in_float32
from postnms.suppression.protocol import Kept, Padded, Ranked, Suppressor

METHODS = ("hard", "linear", "gaussian")
"""Names of the decay methods. A kernel gets the position of a method in this tuple."""
HARD, LINEAR, GAUSSIAN = range(len(METHODS))


class SoftSettings(NamedTuple):
    """Settings of the rounds of Soft-NMS, as the kernels take them."""

    method: int
    """Position in ``METHODS``."""
    iou_threshold: float
    """IoU above which ``hard`` and ``linear`` lower a score."""
    sigma: float
    """Width of the Gaussian decay."""
    min_score: float
    """Candidates with a current score below this are dropped."""
    vote_sigma: float = 1.0
    """Width of the weights of the votes."""
    vote_iou: float = 1.0
    """IoU with the selected box above which a box votes."""


class SoftNMS(Suppressor):
    """Soft-NMS (arXiv 1704.04503): each round selects the best *current* score and lowers others.

    In each round the candidate with the best current score of its group is selected, with that
    score. Its IoU with each candidate that is left then lowers the score of that candidate.
    ``linear`` multiplies it by 1 - IoU if the IoU is over the threshold.
    ``gaussian`` multiplies it by exp(-IoU^2 / sigma). ``hard`` drops the candidate if the IoU is
    over the threshold, which is greedy NMS. A candidate whose score is below ``min_score`` is
    dropped. Scores never rise, and boxes do not change. Scores must be in [0, 1]. The numbers are
    the defaults of the authors' code, whose boxes are one pixel wider and higher.

    Example:
        >>> import torch
        >>> from postnms import Candidates
        >>> from postnms.suppression.soft import SoftNMS
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 5, 10], [50, 0, 60, 10]])
        >>> scores = torch.tensor([0.75, 0.5, 0.375])
        >>> zeros = torch.zeros(3, dtype=torch.int64)
        >>> candidates = Candidates(boxes, scores, zeros, zeros, torch.arange(3), num_images=1)
        >>> detections = SoftNMS(method="linear", iou_threshold=0.25)(candidates)
        >>> detections.scores.tolist(), detections.source.tolist()
        ([0.75, 0.375, 0.25], [0, 2, 1])
    """

    method: Literal["hard", "linear", "gaussian"] = "linear"
    """How the scores of overlapping candidates decay."""
    iou_threshold: Fraction = 0.3
    """IoU in [0, 1] above which ``hard`` and ``linear`` lower a score."""
    sigma: PositiveFloat = 0.5
    """Width of the decay of ``gaussian``. A larger one lowers scores less."""
    min_score: Fraction = 0.001
    """Candidates with a current score below this are dropped, before the first round too."""

    needs_probabilities: ClassVar[bool] = True

    def idle_fields(self) -> dict[str, str]:
        """Return ``iou_threshold`` for the Gaussian decay, and ``sigma`` for the others."""
        field = "iou_threshold" if self.method == "gaussian" else "sigma"
        return {field: f"with method={self.method!r}"}

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the selected candidates with the scores that they had when they were selected."""
        settings = SoftSettings(
            METHODS.index(self.method), self.iou_threshold, self.sigma, self.min_score
        )
        return _soften(ranked, settings, ranked.boxes.new_zeros(0, 4))


class VarianceVoting(Suppressor):
    """Variance voting in a Gaussian Soft-NMS, "Softer-NMS" (arXiv 1809.08545, algorithm 1).

    The extra column ``edge_log_variance`` (n, 4) holds the logarithms of the predicted variances,
    in square pixels, of the left, top, right and bottom edge. Candidates are selected as in
    Soft-NMS with the Gaussian decay. When one is selected, each of its edges becomes the mean of
    that edge over the voters, weighted by exp(-(1 - IoU)^2 / vote_sigma) / variance. The voters are
    the selected candidate and the candidates not yet selected or dropped that overlap it by more
    than ``vote_iou``. The IoU is always that of the boxes as they were given. Since each edge has
    its own weights, the means of two opposite edges may cross. Such edges are exchanged. Scores
    must be in [0, 1].

    The settings are the defaults of the authors' code. It takes variances relative to the sides of
    the boxes, as the network gives them, does not exchange edges, and has boxes that are one pixel
    wider and higher.
    """

    sigma: PositiveFloat = 0.5
    """Width of the Gaussian decay. A larger one lowers scores less."""
    min_score: Fraction = 0.001
    """Candidates with a current score below this are dropped, before the first round too."""
    vote_sigma: PositiveFloat = 0.01
    """Width of the weights of the votes. A larger one gives distant voters more weight."""
    vote_iou: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """IoU with the selected box, in [0, 1), above which a candidate votes."""

    columns: ClassVar[dict[str, int]] = {"edge_log_variance": 4}
    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the selected candidates with the edges and scores that they got when selected."""
        settings = SoftSettings(
            GAUSSIAN, 0.0, self.sigma, self.min_score, self.vote_sigma, self.vote_iou
        )
        return _soften(ranked, settings, ranked.candidates.extra["edge_log_variance"])


def _soften(ranked: Ranked, settings: SoftSettings, log_variance: Tensor) -> Kept:
    """Run the rounds of all groups.

    ``log_variance`` is (n, 4), or (0, 4) for Soft-NMS without votes.
    """
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import soft as kernels

        scores = ranked.scores.numpy()
        rows = ranked.rows.numpy()
        final = np.empty(len(ranked), np.float32)
        voted = np.empty((4, len(ranked)), np.float32)
        edges = np.ascontiguousarray(log_variance.numpy().T)
        kernels.soften(*arrays(ranked), scores, rows, in_float32(settings), edges, voted, final)
        score = torch.from_numpy(final)
        boxes = torch.from_numpy(voted.T)
    elif ranked.backend == "triton":
        from postnms.suppression.triton import soft as kernels

        edges = log_variance.T.contiguous()
        given = (columns(ranked), ranked.starts, ranked.scores, ranked.rows)
        score, voted = kernels.soften(*given, settings, edges)
        boxes = voted.T
    else:
        score = torch.full_like(ranked.scores, -1)
        boxes = ranked.boxes.clone()
        for batch in ranked.padded():
            _soften_padded(ranked, batch, settings, log_variance, score, boxes)
    places = (score >= 0).nonzero().squeeze(1)
    if not len(log_variance):
        return Kept(places, ranked.boxes[places], score[places])
    # Each edge has its own weights, so the left edge may end up beyond the right one.
    edges = boxes[places]
    upright = torch.cat(
        [torch.minimum(edges[:, :2], edges[:, 2:]), torch.maximum(edges[:, :2], edges[:, 2:])],
        dim=1,
    )
    return Kept(places, upright, score[places])


def _soften_padded(
    ranked: Ranked,
    batch: Padded,
    settings: SoftSettings,
    log_variance: Tensor,
    score: Tensor,
    voted: Tensor,
) -> None:
    """Run the rounds of the groups of one padded batch.

    Each round selects one candidate of every group that has one left. It writes the current score
    of the candidate to ``score`` (n,) and, if there are votes, its edges to ``voted`` (n, 4).
    """
    boxes = ranked.boxes[batch.places]
    rows = ranked.rows[batch.places]
    current = ranked.scores[batch.places]
    alive = batch.real & (current >= settings.min_score)
    while bool(alive.any()):
        top = torch.where(alive, current, -1.0).amax(dim=1, keepdim=True)
        # Of equal scores, the lower row is selected. The rows of all other candidates are too
        # large.
        best = torch.where(alive & (current == top), rows, len(ranked)).argmin(dim=1, keepdim=True)
        going = alive.any(dim=1)  # groups that are not finished
        iou = paired_iou(boxes.gather(1, best[..., None].expand(-1, -1, 4)), boxes)
        chosen = batch.places.gather(1, best)[going].squeeze(1)
        score[chosen] = current.gather(1, best)[going].squeeze(1)
        if len(log_variance):
            voted[chosen] = _votes(boxes, iou, best, alive, log_variance[batch.places], settings)[
                going
            ]
        alive.scatter_(1, best, False)
        current = _decayed(current, iou, settings)
        alive &= current >= settings.min_score


def _decayed(current: Tensor, iou: Tensor, settings: SoftSettings) -> Tensor:
    """Return the scores (G, L) after the decay by the selected boxes, -1 for dropped candidates."""
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
    """Return the edges (G, 4) of the selected boxes ``best`` (G, 1) as means of the voters."""
    away = (1 - iou).scatter(1, best, 0.0)
    voters = alive & (iou > settings.vote_iou).scatter(1, best, True)
    exponent = (-(away * away) / settings.vote_sigma)[..., None] - log_variance
    exponent = torch.where(voters[..., None], exponent, -torch.inf)
    # A common factor of the weights cancels out. It is chosen so that the largest weight is 1, so
    # no weight overflows, and not all of them round to 0.
    weights = torch.exp(exponent - exponent.amax(dim=1, keepdim=True))
    return (weights * boxes).sum(dim=1) / weights.sum(dim=1)
