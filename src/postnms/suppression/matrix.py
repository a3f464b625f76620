"""Fast NMS, Cluster-NMS and Matrix NMS, which their papers define by matrix operations.

Their definitions are over the IoU matrix of all pairs of a group. The ``eager`` backend computes
it. The ``cpu`` backend visits one row of it at a time, in ``kernels/matrix.py``, and the ``triton``
backend one column, in ``triton/matrix.py``.

n: candidates, p: pairs, G: groups of one padded batch, L: candidates of the largest of these G
groups.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import PositiveFloat
from torch import Tensor

from postnms.boxes import paired_distance
from postnms.config import Fraction
from postnms.suppression.overlaps import (
    arrays,
    columns,
    is_key,
    overlap_matrix,
    overlapping,
    owners,
)
from postnms.suppression.pairs import Pairs, mean_boxes, sum_by
from postnms.suppression.protocol import Kept, Ranked, Suppressor, kept_as_they_are, kept_where


class FastNMS(Suppressor):
    """Fast NMS (YOLACT, arXiv 1904.02689): drop each box that any better box overlaps.

    Unlike in greedy NMS, a box that is itself dropped still suppresses others. The kept boxes are
    therefore a subset of those of greedy NMS. Boxes and scores do not change. The authors' code
    looks at the 200 best boxes of a class only.
    """

    iou_threshold: Fraction = 0.5
    """IoU in [0, 1] above which a box suppresses each box that ranks behind it."""

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the boxes that no box ahead overlaps by more than the threshold, unchanged."""
        return kept_as_they_are(ranked, _most_overlapped(ranked) <= self.iou_threshold)


class ClusterNMS(Suppressor):
    """Cluster-NMS (arXiv 2005.03572, section IV): greedy NMS as a fixed point, with its extensions.

    Without extensions the result is that of greedy NMS. Three extensions of the authors' code can
    be combined. D is (rho^2 / c^2)^beta, as in DIoU-NMS: rho is the distance of two centres, and c
    is the diagonal of the smallest box around both boxes.

    - ``score_penalty``: no box is dropped for its overlap. Instead, each key of greedy NMS that
      ranks ahead of a box and overlaps it multiplies the box's score by exp(-IoU^2 / sigma).
    - ``distance``: the overlap is IoU - D in place of the IoU. With ``score_penalty`` the keys are
      those of the plain IoU, and the factor of the score is min(exp(-IoU^2 / sigma) + D, 1).
    - ``weighted``: a key moves to the mean of itself and the boxes ranked behind it whose overlap
      with it is over ``vote_threshold``. A box has the weight score * overlap, and the key its
      score. With ``score_penalty`` these are the lowered scores, and the overlap is the IoU.

    Scores must be in [0, 1].

    Example:
        >>> import torch
        >>> from postnms import Candidates
        >>> from postnms.suppression.matrix import ClusterNMS
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 5, 10]])
        >>> scores = torch.tensor([0.75, 0.5])
        >>> zeros = torch.zeros(2, dtype=torch.int64)
        >>> candidates = Candidates(boxes, scores, zeros, zeros, torch.arange(2), num_images=1)
        >>> suppressor = ClusterNMS(iou_threshold=0.25, weighted=True, vote_threshold=0.25)
        >>> suppressor(candidates).boxes.tolist()
        [[0.0, 0.0, 8.75, 10.0]]
    """

    iou_threshold: Fraction = 0.5
    """Overlap, in [0, 1], above which a key suppresses another box, or would without
    ``score_penalty``."""
    distance: bool = False
    """Let distant centres lessen the suppression."""
    score_penalty: bool = False
    """Lower the scores of overlapping boxes instead of dropping the boxes."""
    weighted: bool = False
    """Move boxes to a weighted mean of the boxes that overlap them."""
    moved: Literal["keys", "survivors"] = "keys"
    """Boxes that ``weighted`` moves. ``keys``: as above. ``survivors``, which needs
    ``score_penalty``: each box with a final score over ``min_score``, by weights that are the IoU
    alone. The box itself has the weight 1. The authors' YOLACT code has both, ``keys`` for classes
    that suppress each other and ``survivors`` for one class at a time."""
    beta: PositiveFloat = 0.9
    """Power of the relative distance of the centres, which only ``distance`` uses. The authors'
    YOLACT code has 0.9 in the overlap and 0.6 in the factor of the score."""
    sigma: PositiveFloat = 0.2
    """Width of the score penalty. A larger one lowers scores less."""
    vote_threshold: Fraction = 0.8
    """Overlap in [0, 1] above which a box counts in the weighted mean."""
    min_score: Fraction = 0.01
    """With ``score_penalty``, a box with a final score at or below this is dropped."""

    needs_probabilities: ClassVar[bool] = True

    def idle_fields(self) -> dict[str, str]:
        """Return the fields of the extensions that are off."""
        idle = {} if self.distance else {"beta": "without distance"}
        if not self.score_penalty:
            idle |= dict.fromkeys(("sigma", "min_score", "moved"), "without score_penalty")
        if not self.weighted:
            idle |= dict.fromkeys(("vote_threshold", "moved"), "without weighted")
        return idle

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the keys or, with ``score_penalty``, all boxes with a score over ``min_score``."""
        measure = "diou" if self.distance and not self.score_penalty else "iou"
        keys = is_key(owners(ranked, self.iou_threshold, measure, beta=self.beta))
        scores = self._penalised(ranked, keys) if self.score_penalty else ranked.scores
        kept = scores > self.min_score if self.score_penalty else keys
        boxes = self._means(ranked, keys, scores) if self.weighted else ranked.boxes
        return kept_where(kept, boxes, scores)

    def _penalised(self, ranked: Ranked, keys: Tensor) -> Tensor:
        """Return the scores (n,) after the penalty of all keys that rank ahead."""
        pairs = _worse(overlapping(ranked, keys, 0.0))
        exponent = -(pairs.overlap**2) / self.sigma
        if self.distance:
            apart = self._distances(ranked, pairs)
            exponent = torch.log((exponent.exp() + apart).clamp(max=1))
        # The product of all penalties is one exponential of a sum.
        return ranked.scores * sum_by(exponent, pairs.second, len(ranked)).exp()

    def _means(self, ranked: Ranked, keys: Tensor, scores: Tensor) -> Tensor:
        """Return the boxes (n, 4), those that move replaced by their weighted means."""
        by_iou_alone = self.moved == "survivors"
        firsts = scores > self.min_score if by_iou_alone else keys
        pairs = overlapping(ranked, firsts, self.vote_threshold)
        overlap = pairs.overlap
        if self.distance and not self.score_penalty:
            overlap = overlap - self._distances(ranked, pairs)
        itself = pairs.first == pairs.second
        counts = itself | ((pairs.first < pairs.second) & (overlap > self.vote_threshold))
        # A box without an area has an IoU of 0 with itself, but it counts fully.
        weights = torch.where(itself, 1.0, overlap) * counts
        if not by_iou_alone:
            weights = weights * scores[pairs.second]
        return mean_boxes(ranked, pairs, weights)

    def _distances(self, ranked: Ranked, pairs: Pairs) -> Tensor:
        """Return (rho^2 / c^2)^beta (p,) of the two boxes of each pair."""
        distance = paired_distance(ranked.boxes[pairs.first], ranked.boxes[pairs.second])
        # The last bit of a power depends on where torch splits the work between threads. It must
        # not be a bit of the result.
        return (distance.double() ** self.beta).to(distance.dtype)


class MatrixNMS(Suppressor):
    """Matrix NMS (SOLOv2, arXiv 2003.10152): decay each score once, by its worst overlap ahead.

    This is section 3.3 of the paper. The score of candidate j is multiplied by the minimum of
    f(IoU(i, j)) / f(m_i) over all candidates i of its group that rank ahead of j. m_i is the
    largest IoU of i with a candidate ahead of i, or 0 if there is none. The denominator compensates
    for the chance that i is itself suppressed. The function f(x) is 1 - x (``linear``) or
    exp(-sigma * x^2) (``gaussian``). Boxes do not change. Scores must be in [0, 1]. The method and
    sigma are the defaults of the authors' code, which takes the IoU of masks.
    """

    method: Literal["linear", "gaussian"] = "gaussian"
    """The decay function f."""
    sigma: PositiveFloat = 2.0
    """Strength of the decay of ``gaussian``. A larger one lowers scores more."""
    min_score: Fraction = 0.001
    """A candidate with a decayed score below this is dropped. The authors' test settings have
    0.05."""

    needs_probabilities: ClassVar[bool] = True

    def idle_fields(self) -> dict[str, str]:
        """Return ``sigma`` for the linear decay."""
        return {"sigma": f"with method={self.method!r}"} if self.method == "linear" else {}

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the candidates with a decayed score of at least ``min_score``."""
        least = _matrix_decay(ranked, gaussian=self.method == "gaussian")
        scores = ranked.scores * (
            torch.exp(self.sigma * least) if self.method == "gaussian" else least
        )
        return kept_where(scores >= self.min_score, ranked.boxes, scores)


def _worse(pairs: Pairs) -> Pairs:
    """Return the pairs whose second candidate ranks behind the first."""
    behind = (pairs.first < pairs.second).nonzero().squeeze(1)
    return Pairs(pairs.first[behind], pairs.second[behind], pairs.overlap[behind])


def _most_overlapped(ranked: Ranked) -> Tensor:
    """Return the largest IoU (n,) of each candidate with a candidate ahead of it in its group.

    It is 0 for the first candidate of a group.
    """
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import matrix as kernels

        most = np.zeros(len(ranked), np.float32)
        kernels.most_overlapped(*arrays(ranked), most)
        return torch.from_numpy(most)
    if ranked.backend == "triton":
        from postnms.suppression.triton import matrix as kernels

        return kernels.most_overlapped(columns(ranked), ranked.starts, ranked.group)
    most = torch.zeros_like(ranked.scores)
    for batch in ranked.padded():
        iou = torch.where(batch.ahead, overlap_matrix(ranked, batch), 0.0)
        most[batch.places[batch.real]] = iou.amax(dim=1)[batch.real]
    return most


def _matrix_decay(ranked: Ranked, *, gaussian: bool) -> Tensor:
    """Return for each candidate j the minimum (n,) over all candidates i ahead of it in its group.

    Linear: the minimum of the factor (1 - IoU(i, j)) / (1 - m_i), which starts at 1. Gaussian: the
    minimum of m_i^2 - IoU(i, j)^2, which starts at 0. Times sigma it is the exponent of the factor.
    """
    start = 0.0 if gaussian else 1.0
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import matrix as kernels

        most = np.zeros(len(ranked), np.float32)
        decay = np.full(len(ranked), start, np.float32)
        kernels.matrix_decay(*arrays(ranked), gaussian, most, decay)
        return torch.from_numpy(decay)
    if ranked.backend == "triton":
        from postnms.suppression.triton import matrix as kernels

        groups = (columns(ranked), ranked.starts, ranked.group)
        return kernels.matrix_decay(*groups, gaussian=gaussian)
    decay = torch.full_like(ranked.scores, start)
    for batch in ranked.padded():
        iou = torch.where(batch.ahead, overlap_matrix(ranked, batch), 0.0)
        most = iou.amax(dim=1)[:, :, None]
        # m_i == 1: i equals a better box, which applies the same decay already. Skip i, to avoid a
        # division by 0.
        linear = torch.where(most < 1, (1 - iou) / (1 - most), 1.0)
        ratio = most * most - iou * iou if gaussian else linear
        least = torch.where(batch.ahead, ratio, start).amin(dim=1)
        decay[batch.places[batch.real]] = least[batch.real]
    return decay
