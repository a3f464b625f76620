"""Confluence, which compares boxes by the distance of their corners in place of IoU.

The source is arXiv 2012.00257. The ``cpu`` backend runs the rounds in ``kernels/confluence.py``,
and the ``triton`` backend in ``triton/confluence.py``. The ``eager`` backend runs one round of all
groups of a padded batch together.

n: candidates, G: groups of one padded batch, L: candidates of the largest of these G groups.
"""

from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import PositiveFloat
from torch import Tensor

from postnms.config import Fraction
from postnms.suppression.overlaps import arrays, columns, in_float32
from postnms.suppression.protocol import Kept, Padded, Ranked, Suppressor, kept_where

DECAYS = ("suppress", "linear", "gaussian")
"""Names of the decay methods. A kernel gets the position of a method in this tuple."""
SUPPRESS, LINEAR, GAUSSIAN = range(len(DECAYS))

FIXED_POINT = 2**32
"""Proximities are summed as integers, in units of 1 / FIXED_POINT. The sum, and so every tie, does
not depend on the order of addition."""


class ConfluenceSettings(NamedTuple):
    """Settings of the rounds of Confluence, as the kernel takes them."""

    threshold: float
    """Two boxes with a proximity below this are close."""
    decay: int
    """Position in ``DECAYS``."""
    sigma: float
    """Width of the Gaussian decay."""
    min_score: float
    """Candidates with a current score below this are dropped."""
    by_score: bool
    """Select by the score alone, not by the confluence."""


class Confluence(Suppressor):
    """Select the box with the best confluence, lower the scores of close boxes, and select again.

    The source is arXiv 2012.00257. The proximity P of two boxes is |dx1| + |dx2| + |dy1| + |dy2|,
    the distances of their edges, after the smallest box around both is scaled to [0, 1] along each
    axis. P is in [0, 4], and 0 for equal boxes. Two boxes are close if P is below ``threshold``.

    Each round selects one candidate of a group. With ``selection`` ``score`` it is the candidate
    with the best current score. With ``confluence`` it is the one with the smallest product (1 -
    score) * mean(t). The mean is over the other candidates that are left, and t is min(P, 1) for a
    close candidate and 1 otherwise. The selected candidate gets the best current score of itself
    and the candidates close to it, and keeps its box. The close candidates then decay by the method
    ``decay``. Scores must be in [0, 1].

    The settings are the defaults of the authors' function for ``selection`` ``score``. Their
    function for ``confluence`` has none for the threshold and the decay, and gives the selected
    candidate the best score of the others that are close, thus 0 where none is. Both count boxes as
    close at the threshold too. The paper drops close boxes, as ``suppress`` does.
    """

    threshold: PositiveFloat = 0.7
    """Proximity below which two boxes are close. A value over 4 makes all boxes close."""
    selection: Literal["confluence", "score"] = "confluence"
    """Quantity that selects the candidate of a round."""
    decay: Literal["suppress", "linear", "gaussian"] = "gaussian"
    """What happens to the candidates close to the selected one. ``suppress`` drops them. ``linear``
    multiplies their scores by min(P, 1), and ``gaussian`` by exp(-(1 - P)^2 / sigma)."""
    sigma: PositiveFloat = 0.5
    """Width of the decay of ``gaussian``. A larger one lowers scores less."""
    min_score: Fraction = 0.05
    """Candidates with a current score below this are dropped, before the first round too."""

    needs_probabilities: ClassVar[bool] = True

    def idle_fields(self) -> dict[str, str]:
        """Return ``sigma`` for the decays that are not Gaussian."""
        return {} if self.decay == "gaussian" else {"sigma": f"with decay={self.decay!r}"}

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the selected candidates with the scores that they got when they were selected."""
        by_score = self.selection == "score"
        decay = DECAYS.index(self.decay)
        settings = ConfluenceSettings(self.threshold, decay, self.sigma, self.min_score, by_score)
        score = _selected(ranked, settings)
        return kept_where(score >= 0, ranked.boxes, score)


def _selected(ranked: Ranked, settings: ConfluenceSettings) -> Tensor:
    """Return the score (n,) of each candidate when it was selected, -1 if it never was."""
    if ranked.backend == "triton":
        from postnms.suppression.triton import confluence as kernels

        groups = (columns(ranked), ranked.starts, ranked.group)
        return kernels.select_by_confluence(
            *groups, ranked.scores, ranked.rows, settings, FIXED_POINT
        )
    score = torch.full_like(ranked.scores, -1)
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import confluence as kernels

        given = (ranked.scores.numpy(), ranked.rows.numpy(), in_float32(settings))
        kernels.select_by_confluence(*arrays(ranked), *given, FIXED_POINT, score.numpy())
        return score
    for batch in ranked.padded():
        _select_padded(ranked, batch, settings, score)
    return score


def _select_padded(
    ranked: Ranked, batch: Padded, settings: ConfluenceSettings, score: Tensor
) -> None:
    """Run the rounds of the groups of one padded batch.

    Each round selects one candidate of every group that has one left, and writes its score to
    ``score`` (n,).
    """
    threshold, decay, sigma, min_score, by_score = settings
    rows = ranked.rows[batch.places]
    current = ranked.scores[batch.places]
    proximity = _proximities(ranked.boxes[batch.places])
    close = proximity < torch.tensor(threshold, dtype=proximity.dtype)
    # Sums of integers do not depend on the order of their terms, and so neither do ties.
    terms = (torch.where(close, proximity, 1.0).clamp(max=1).double() * FIXED_POINT).long()
    terms.diagonal(dim1=1, dim2=2).zero_()
    alive = batch.real & (current >= min_score)
    while bool(alive.any()):
        others = (alive.sum(dim=1, keepdim=True) - 1).clamp(min=1)
        mean_term = (terms * alive[:, None, :]).sum(dim=2).double() / others
        merit = current.double() if by_score else -mean_term * (1 - current).double()
        top = torch.where(alive, merit, -torch.inf).amax(dim=1, keepdim=True)
        # Of equal candidates, the lower row is selected. The rows of all others are too large.
        best = torch.where(alive & (merit == top), rows, len(ranked)).argmin(dim=1, keepdim=True)
        going = alive.any(dim=1)  # groups that are not finished
        near = close.gather(1, best[..., None].expand(-1, -1, close.shape[2])).squeeze(1) & alive
        apart = proximity.gather(1, best[..., None].expand(-1, -1, close.shape[2])).squeeze(1)
        # The selected candidate takes the best score of itself and the close ones.
        near = near.scatter(1, best, True)
        score[batch.places.gather(1, best)[going].squeeze(1)] = torch.where(
            near, current, -1.0
        ).amax(dim=1)[going]
        alive = alive.scatter(1, best, False)
        factor = torch.exp(-((1 - apart) ** 2) / sigma) if decay == GAUSSIAN else apart.clamp(max=1)
        current = torch.where(near, current * factor, current)
        alive &= (current >= min_score) & ~(near if decay == SUPPRESS else torch.zeros_like(near))


def _proximities(boxes: Tensor) -> Tensor:
    """Return the proximity (G, L, L) float32, in [0, 4], of all boxes (G, L, 4) of a group."""
    first = boxes[:, :, None]
    second = boxes[:, None]
    low = torch.minimum(first, second)[..., :2]
    high = torch.maximum(first, second)[..., 2:]
    extent = high - low
    moved = (first - second).abs()
    moved = moved[..., :2] + moved[..., 2:]
    # Where both boxes have no extent along an axis, they agree there.
    return torch.where(extent > 0, moved / extent, 0.0).sum(dim=-1)
