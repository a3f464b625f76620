"""Confluence: closeness of the corners in place of IoU (arXiv 2012.00257).

n: candidates, L: candidates of the largest of G groups.
"""

from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import PositiveFloat
from torch import Tensor

from postnms.config import Fraction
from postnms.suppression.overlaps import arrays, in_float32
from postnms.suppression.protocol import Kept, Padded, Ranked, Suppressor

DECAYS = ("suppress", "linear", "gaussian")
SUPPRESS, LINEAR, GAUSSIAN = range(len(DECAYS))

FIXED_POINT = 2**32
"""Proximities are summed in units of one part of it."""


class ConfluenceSettings(NamedTuple):
    """What the rounds of Confluence need to know."""

    threshold: float
    """Boxes with a proximity under this are close."""
    decay: int
    """Position in ``DECAYS``."""
    sigma: float
    min_score: float
    """Boxes that score less are dropped."""
    by_score: bool
    """Select by score alone, in place of the confluence."""


class Confluence(Suppressor):
    """Select a box, lower what is close to it, select again.

    Proximity P of two boxes, in [0, 4]: |dx1| + |dx2| + |dy1| + |dy2| when the box around both is scaled to [0, 1].
    Selected is the best ``score`` or, as ``confluence``, the least (1 - S) * mean of min(P, 1 where P is not under
    the threshold) over the others that are left; it then takes the best score of itself and what is close. What is
    close (P under ``threshold``) goes (``suppress``), or its score is multiplied by min(P, 1) (``linear``) or by
    exp(-(1 - P)^2 / sigma) (``gaussian``), and it goes once it scores under ``min_score``.
    """

    threshold: PositiveFloat = 0.6
    selection: Literal["confluence", "score"] = "confluence"
    decay: Literal["suppress", "linear", "gaussian"] = "suppress"
    sigma: PositiveFloat = 0.5
    min_score: Fraction = 0.001

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """What was selected, with the score that it had then."""
        by_score = self.selection == "score"
        decay = DECAYS.index(self.decay)
        settings = ConfluenceSettings(self.threshold, decay, self.sigma, self.min_score, by_score)
        score = torch.full_like(ranked.scores, -1)
        if ranked.backend == "cpu":
            from postnms.suppression.kernels import confluence as kernels

            columns, starts = arrays(ranked)
            given = (ranked.scores.numpy(), ranked.rows.numpy(), in_float32(settings))
            kernels.select_by_confluence(columns, starts, *given, FIXED_POINT, score.numpy())
        else:
            for some in ranked.padded():
                _conflow_padded(ranked, some, settings, score)
        places = (score >= 0).nonzero().squeeze(1)
        return Kept(places, ranked.boxes[places], score[places])


def _conflow_padded(
    ranked: Ranked, some: Padded, settings: ConfluenceSettings, score: Tensor
) -> None:
    """One round a candidate of the longest group; fills ``score`` of what is selected."""
    threshold, decay, sigma, least, by_score = settings
    rows, current = ranked.rows[some.places], ranked.scores[some.places]
    proximity = _proximities(ranked.boxes[some.places])
    close = proximity < torch.tensor(threshold, dtype=proximity.dtype)
    # As whole numbers the sums do not depend on the order of their terms, and neither do ties.
    terms = (torch.where(close, proximity, 1.0).clamp(max=1).double() * FIXED_POINT).long()
    terms.diagonal(dim1=1, dim2=2).zero_()
    alive = some.real & (current >= least)
    while bool(alive.any()):
        others = (alive.sum(dim=1, keepdim=True) - 1).clamp(min=1)
        loneliness = (terms * alive[:, None, :]).sum(dim=2).double() / others
        want = current.double() if by_score else -loneliness * (1 - current).double()
        top = torch.where(alive, want, -torch.inf).amax(dim=1, keepdim=True)
        best = torch.where(alive & (want == top), rows, len(ranked)).argmin(dim=1, keepdim=True)
        going = alive.any(dim=1)
        near = close.gather(1, best[..., None].expand(-1, -1, close.shape[2])).squeeze(1) & alive
        apart = proximity.gather(1, best[..., None].expand(-1, -1, close.shape[2])).squeeze(1)
        near = near.scatter(1, best, True)
        score[some.places.gather(1, best)[going].squeeze(1)] = torch.where(
            near, current, -1.0
        ).amax(dim=1)[going]
        alive = alive.scatter(1, best, False)
        factor = torch.exp(-((1 - apart) ** 2) / sigma) if decay == GAUSSIAN else apart.clamp(max=1)
        current = torch.where(near, current * factor, current)
        alive &= (current >= least) & ~(near if decay == SUPPRESS else torch.zeros_like(near))


def _proximities(boxes: Tensor) -> Tensor:
    """(G, L, L) float32, in [0, 4], from boxes (G, L, 4)."""
    first, second = boxes[:, :, None], boxes[:, None]
    low, high = torch.minimum(first, second)[..., :2], torch.maximum(first, second)[..., 2:]
    extent = high - low
    moved = (first - second).abs()
    moved = moved[..., :2] + moved[..., 2:]
    return torch.where(extent > 0, moved / extent, 0.0).sum(dim=-1)
