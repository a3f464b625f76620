"""Weighted Boxes Fusion, where each box joins a running mean and none is dropped.

The source is arXiv 1910.13302. The ``cpu`` backend assigns candidates to fused boxes in
``kernels/weighted_fusion.py``, and the ``triton`` backend in ``triton/weighted_fusion.py``. The
``eager`` backend assigns one candidate of every group of a padded batch at a time.

n: candidates, G: groups of one padded batch, L: candidates of the largest of these G groups.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from postnms.boxes import paired_iou
from postnms.config import Fraction
from postnms.errors import UserError
from postnms.structures import Candidates
from postnms.suppression.overlaps import arrays, columns, is_key
from postnms.suppression.pairs import max_by, mean_boxes, members_of, sum_by
from postnms.suppression.protocol import Kept, Padded, Ranked, Suppressor, kept_where

Weights = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
"""One positive weight for each model, at least one."""


class WBF(Suppressor):
    """Weighted Boxes Fusion (arXiv 1910.13302): each box joins the fused box that it overlaps most.

    It fuses the candidates of several models, or of several views of an image. For a single model
    greedy NMS is usually better. Candidates of a group are visited by falling weight, which is the
    score times the weight of the model. A candidate joins the fused box that it overlaps most
    (ties: the older), if their IoU is over the threshold. Otherwise it starts a new fused box. A
    fused box is the mean of its members by weight, and moves with each new member. With c members
    of weights w, N models, and the model weights M, its score is, by ``confidence``:

    - ``avg``: mean(w) * min(N, c) / sum(M).
    - ``max``: max(w) / max(M).
    - ``box_and_model_avg``: sum(w) / (sum of M over the members) * (sum of M over the models of the
      members) / sum(M).
    - ``absent_model_aware_avg``: sum(w) / (sum of M over the members + sum of M over the models
      without a member).

    The last two are as in the package ``ensemble-boxes`` of the authors. Each fused box takes its
    label, image and source from its first member. If there is more than one model, the candidates
    need the extra column ``model`` (n,) with the number 0..N-1 of the model that each comes from.
    The call raises UserError if the column is missing, and ValueError for other numbers. Scores
    must be in [0, 1].

    Example:
        >>> import torch
        >>> from postnms import Candidates
        >>> from postnms.suppression.weighted_fusion import WBF
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 8, 10]])
        >>> scores = torch.tensor([0.75, 0.25])
        >>> zeros = torch.zeros(2, dtype=torch.int64)
        >>> candidates = Candidates(boxes, scores, zeros, zeros, torch.arange(2), num_images=1)
        >>> detections = WBF()(candidates)
        >>> detections.boxes.tolist(), detections.scores.tolist()
        ([[0.0, 0.0, 9.5, 10.0]], [0.5])
    """

    iou_threshold: Fraction = 0.55
    """IoU in [0, 1] with a fused box above which a candidate may join it."""
    confidence: Literal["avg", "max", "box_and_model_avg", "absent_model_aware_avg"] = "avg"
    """How the score of a fused box is computed from those of its members."""
    model_weights: Weights = (1.0,)
    """Weight of each model, above 0."""

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """Return the fused boxes with their scores."""
        owner = _fusion_owners(ranked, self.iou_threshold)
        keys = is_key(owner)
        boxes = mean_boxes(ranked, members_of(ranked, owner), ranked.rank)
        return kept_where(keys, boxes, self._scores(ranked, owner))

    def rank_by(self, candidates: Candidates) -> Tensor:
        """Return the weight (n,) of each candidate, its score times the weight of its model."""
        return candidates.scores * self._weights(candidates)

    def _scores(self, ranked: Ranked, owner: Tensor) -> Tensor:
        """Return the scores (n,) of the fused boxes, each at the position of its first member."""
        size = len(ranked)
        weights = self._weights(ranked.candidates)
        if self.confidence == "max":
            return max_by(ranked.rank, owner, size) / max(self.model_weights)
        total = sum(self.model_weights)
        models = len(self.model_weights)
        votes = sum_by(ranked.rank, owner, size)
        count = sum_by(torch.ones_like(votes), owner, size).clamp(min=1)
        if self.confidence == "avg":
            return votes / count * count.clamp(max=models) / total
        # For each fused box, the models that have a member in it, and the sum of their weights.
        present = votes.new_zeros(size, models)
        present[owner, self._models(ranked.candidates)] = 1.0
        seen = present @ present.new_tensor(self.model_weights)
        member_weights = sum_by(weights, owner, size).clamp(min=torch.finfo(torch.float32).tiny)
        if self.confidence == "box_and_model_avg":
            return votes / member_weights * seen / total
        return votes / (member_weights + total - seen)

    def _weights(self, candidates: Candidates) -> Tensor:
        """Return the weight (n,) of the model of each candidate."""
        return candidates.scores.new_tensor(self.model_weights)[self._models(candidates)]

    def _models(self, candidates: Candidates) -> Tensor:
        """Return the number (n,) int64 of the model that each candidate comes from."""
        count = len(self.model_weights)
        if count == 1:
            return torch.zeros_like(candidates.labels)
        if "model" not in candidates.extra:
            raise UserError(
                f"WBF: needs the extra column 'model' for {count} model_weights, "
                "the candidates do not have it"
            )
        models = candidates.extra["model"].long()
        if len(models) and not bool(((models >= 0) & (models < count)).all()):
            came = f"{int(models.min())} to {int(models.max())}"
            raise ValueError(
                f"Candidates.extra['model']: expected values from 0 to {count - 1}, got {came}"
            )
        return models


def _fusion_owners(ranked: Ranked, threshold: float) -> Tensor:
    """Return the position (n,) int64 of the first member of the fused box of each candidate.

    The members of a fused box are averaged by ``ranked.rank``.
    """
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import weighted_fusion as kernels

        owner = np.empty(len(ranked), np.int64)
        kernels.assign_fused(*arrays(ranked), ranked.rank.numpy(), np.float32(threshold), owner)
        return torch.from_numpy(owner)
    if ranked.backend == "triton":
        from postnms.suppression.triton import weighted_fusion as kernels

        return kernels.assign_fused(columns(ranked), ranked.starts, ranked.rank, threshold)
    owner = torch.empty_like(ranked.rows)
    for batch in ranked.padded():
        owner[batch.places[batch.real]] = _fused_padded(ranked, batch, threshold)[batch.real]
    return owner


def _fused_padded(ranked: Ranked, batch: Padded, threshold: float) -> Tensor:
    """Return the positions (G, L) int64 of the first members for the groups of one padded batch.

    Step i assigns the i-th candidate of every group. A fused box is stored in the column of its
    first member.
    """
    boxes = ranked.boxes[batch.places]
    weights = ranked.rank[batch.places]
    fused = boxes.clone()
    totals = torch.zeros_like(boxes)
    sums = torch.zeros_like(weights)
    started = torch.zeros_like(batch.real)
    joined = torch.zeros_like(batch.places)
    groups = torch.arange(len(boxes), device=boxes.device)
    for i in range(boxes.shape[1]):
        iou = torch.where(started, paired_iou(fused, boxes[:, i, None]), -1.0)
        largest, best = iou.max(dim=1)
        # Of equal IoUs the older fused box is chosen, which `max` does not promise.
        best = torch.where(
            largest > threshold, (iou == largest[:, None]).to(torch.uint8).argmax(dim=1), i
        )
        joined[:, i] = best
        weight = weights[:, i] * batch.real[:, i]
        sums[groups, best] += weight
        totals[groups, best] += weight[:, None] * boxes[:, i]
        moved = totals[groups, best] / sums[groups, best, None]
        # A fused box whose weights sum to 0 stays where its first member is.
        fused[groups, best] = torch.where(sums[groups, best, None] > 0, moved, fused[groups, best])
        started[groups, best] |= batch.real[:, i]
    return batch.places.gather(1, joined)
