"""Suppressors made of matrix operations, which look at all pairs at once: Fast, Cluster and Matrix NMS.

n: candidates, p: pairs, L: candidates of the largest of G groups.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import PositiveFloat
from torch import Tensor

from postnms.boxes import paired_distance
from postnms.config import Fraction
from postnms.suppression.overlaps import arrays, is_key, overlap_matrix, overlapping, owners
from postnms.suppression.pairs import Pairs, mean_boxes, sum_by
from postnms.suppression.protocol import Kept, Ranked, Suppressor, kept_as_they_are


class FastNMS(Suppressor):
    """Fast NMS (YOLACT, arXiv 1904.02689): drop what any better box overlaps, a dropped one too."""

    iou_threshold: Fraction = 0.5

    def suppress(self, ranked: Ranked) -> Kept:
        """What no box ahead overlaps by more than the threshold."""
        return kept_as_they_are(ranked, _most_overlapped(ranked) <= self.iou_threshold)


class ClusterNMS(Suppressor):
    """Cluster-NMS (arXiv 2005.03572, section IV): greedy NMS as a fixed point, and what it makes easy.

    ``distance``: the criterion is IoU - (rho^2 / c^2)^beta, as in DIoU-NMS. ``score_penalty``: nothing is dropped
    for its overlap; instead each kept box ahead multiplies a score by exp(-IoU^2 / sigma), with ``distance`` by
    min(exp(-IoU^2 / sigma) + (rho^2 / c^2)^beta, 1), and what ends at ``min_score`` or under it is dropped.
    ``weighted``: a kept box becomes the mean, by score * IoU, of itself and the worse boxes that overlap it by more
    than ``vote_threshold``.
    """

    iou_threshold: Fraction = 0.5
    distance: bool = False
    score_penalty: bool = False
    weighted: bool = False
    beta: PositiveFloat = 0.6
    sigma: PositiveFloat = 0.2
    vote_threshold: Fraction = 0.8
    min_score: Fraction = 0.01

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """The keys; with the score penalty all that still score enough."""
        measure = "diou" if self.distance else "iou"
        keys = is_key(owners(ranked, self.iou_threshold, measure, beta=self.beta))
        boxes = self._means(ranked, keys) if self.weighted else ranked.boxes
        if not self.score_penalty:
            return Kept(keys.nonzero().squeeze(1), boxes[keys], ranked.scores[keys])
        scores = self._penalised(ranked, keys)
        kept = scores > self.min_score
        return Kept(kept.nonzero().squeeze(1), boxes[kept], scores[kept])

    def _penalised(self, ranked: Ranked, keys: Tensor) -> Tensor:
        pairs = _worse(overlapping(ranked, keys, 0.0))
        exponent = -(pairs.overlap**2) / self.sigma
        if self.distance:
            apart = (
                paired_distance(ranked.boxes[pairs.first], ranked.boxes[pairs.second]) ** self.beta
            )
            exponent = torch.log((exponent.exp() + apart).clamp(max=1))
        return ranked.scores * sum_by(exponent, pairs.second, len(ranked)).exp()

    def _means(self, ranked: Ranked, keys: Tensor) -> Tensor:
        pairs = overlapping(ranked, keys, self.vote_threshold)
        itself = pairs.first == pairs.second
        wanted = itself | (pairs.first < pairs.second)
        weights = ranked.scores[pairs.second] * torch.where(itself, 1.0, pairs.overlap) * wanted
        return mean_boxes(ranked, pairs, weights)


class MatrixNMS(Suppressor):
    """Matrix NMS (SOLOv2, arXiv 2003.10152, section 3.3): each score decays once, by its worst overlap ahead.

    Times the least over boxes i ahead of f(IoU with i) / f(largest IoU of i with one ahead of it), where f(x) is
    1 - x (``linear``) or exp(-sigma * x^2) (``gaussian``). Kept: what then scores at least ``min_score``.
    """

    method: Literal["linear", "gaussian"] = "gaussian"
    sigma: PositiveFloat = 2.0
    min_score: Fraction = 0.001

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """All that still score enough, decayed."""
        least = _matrix_decay(ranked, gaussian=self.method == "gaussian")
        scores = ranked.scores * (
            torch.exp(self.sigma * least) if self.method == "gaussian" else least
        )
        kept = (scores >= self.min_score).nonzero().squeeze(1)
        return Kept(kept, ranked.boxes[kept], scores[kept])


def _worse(pairs: Pairs) -> Pairs:
    """Those whose second is ranked behind the first."""
    behind = pairs.first < pairs.second
    return Pairs(pairs.first[behind], pairs.second[behind], pairs.overlap[behind])


def _most_overlapped(ranked: Ranked) -> Tensor:
    """(n,): the largest IoU of each candidate with one ahead of it in its group, 0 for the first."""
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import matrix as kernels

        most = np.zeros(len(ranked), np.float32)
        kernels.most_overlapped(*arrays(ranked), most)
        return torch.from_numpy(most)
    most = torch.zeros_like(ranked.scores)
    for some in ranked.padded():
        iou = torch.where(some.ahead, overlap_matrix(ranked, some), 0.0)
        most[some.places[some.real]] = iou.amax(dim=1)[some.real]
    return most


def _matrix_decay(ranked: Ranked, *, gaussian: bool) -> Tensor:
    """(n,): the least factor (linear), or exponent over sigma (Gaussian), over the candidates ahead."""
    start = 0.0 if gaussian else 1.0
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import matrix as kernels

        most, decay = np.zeros(len(ranked), np.float32), np.full(len(ranked), start, np.float32)
        kernels.matrix_decay(*arrays(ranked), gaussian, most, decay)
        return torch.from_numpy(decay)
    decay = torch.full_like(ranked.scores, start)
    for some in ranked.padded():
        iou = torch.where(some.ahead, overlap_matrix(ranked, some), 0.0)
        most = iou.amax(dim=1)[:, :, None]
        linear = torch.where(most < 1, (1 - iou) / (1 - most), 1.0)
        ratio = most * most - iou * iou if gaussian else linear
        least = torch.where(some.ahead, ratio, start).amin(dim=1)
        decay[some.places[some.real]] = least[some.real]
    return decay
