"""Weighted Boxes Fusion: boxes join a running mean instead of being suppressed."""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from postnms.boxes import paired_iou
from postnms.config import Fraction
from postnms.errors import UserError
from postnms.structures import Candidates
from postnms.suppression.overlaps import arrays, is_key
from postnms.suppression.pairs import max_by, mean_boxes, members_of, sum_by
from postnms.suppression.protocol import Kept, Padded, Ranked, Suppressor

Weights = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]


class WBF(Suppressor):
    """Weighted Boxes Fusion (arXiv 1910.13302): by falling score, a box joins the fused box that it overlaps most.

    Over the threshold with none, it starts one of its own. A fused box is the mean of its members by score, and moves
    with each of them. Its score: ``avg``: the members' mean times min(models, members) / sum of weights; ``max``:
    their largest; ``box_and_model_avg``, ``absent_model_aware_avg``: as in the authors' package.

    ``model_weights``: of each model whose boxes are fused; with more than one, the extra column ``model`` (0, 1, ...)
    says which a candidate comes from. For a single model plain NMS is usually better.
    """

    iou_threshold: Fraction = 0.55
    confidence: Literal["avg", "max", "box_and_model_avg", "absent_model_aware_avg"] = "avg"
    model_weights: Weights = (1.0,)

    needs_probabilities: ClassVar[bool] = True

    def suppress(self, ranked: Ranked) -> Kept:
        """The fused boxes."""
        owner = _fusion_owners(ranked, self.iou_threshold)
        keys = is_key(owner)
        boxes = mean_boxes(ranked, members_of(ranked, owner), ranked.rank)
        return Kept(keys.nonzero().squeeze(1), boxes[keys], self._scores(ranked, owner)[keys])

    def rank_by(self, candidates: Candidates) -> Tensor:
        """The score times the weight of its model."""
        return candidates.scores * self._weights(candidates)

    def _scores(self, ranked: Ranked, owner: Tensor) -> Tensor:
        size, weights = len(ranked), self._weights(ranked.candidates)
        if self.confidence == "max":
            return max_by(ranked.rank, owner, size) / max(self.model_weights)
        total, models = sum(self.model_weights), len(self.model_weights)
        votes = sum_by(ranked.rank, owner, size)
        count = sum_by(torch.ones_like(votes), owner, size).clamp(min=1)
        if self.confidence == "avg":
            return votes / count * count.clamp(max=models) / total
        present = torch.zeros(size, models, device=owner.device)
        present[owner, self._models(ranked.candidates)] = 1.0
        seen = present @ present.new_tensor(self.model_weights)
        member_weights = sum_by(weights, owner, size).clamp(min=torch.finfo(torch.float32).tiny)
        if self.confidence == "box_and_model_avg":
            return votes / member_weights * seen / total
        return votes / (member_weights + total - seen)

    def _weights(self, candidates: Candidates) -> Tensor:
        return candidates.scores.new_tensor(self.model_weights)[self._models(candidates)]

    def _models(self, candidates: Candidates) -> Tensor:
        """(n,) int64: which model each candidate comes from."""
        count = len(self.model_weights)
        if count == 1:
            return torch.zeros_like(candidates.labels)
        if "model" not in candidates.extra:
            raise UserError(
                f"WBF: needs the extra column 'model' for {count} model_weights, the candidates have none"
            )
        models = candidates.extra["model"].long()
        if len(models) and not bool(((models >= 0) & (models < count)).all()):
            came = f"{int(models.min())} to {int(models.max())}"
            raise ValueError(
                f"Candidates.extra['model']: expected values from 0 to {count - 1}, got {came}"
            )
        return models


def _fusion_owners(ranked: Ranked, threshold: float) -> Tensor:
    """(n,) int64: the place of the first member of the fused box that each candidate joins; weights: the rank."""
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import weighted_fusion as kernels

        owner = np.empty(len(ranked), np.int64)
        kernels.assign_fused(*arrays(ranked), ranked.rank.numpy(), np.float32(threshold), owner)
        return torch.from_numpy(owner)
    owner = torch.empty_like(ranked.rows)
    for some in ranked.padded():
        owner[some.places[some.real]] = _fused_padded(ranked, some, threshold)[some.real]
    return owner


def _fused_padded(ranked: Ranked, some: Padded, threshold: float) -> Tensor:
    """(G, L) places: one round a candidate of the longest group. A fused box stands where its first member does."""
    boxes, weights = ranked.boxes[some.places], ranked.rank[some.places]
    fused, totals, sums = boxes.clone(), torch.zeros_like(boxes), torch.zeros_like(weights)
    started, joined = torch.zeros_like(some.real), torch.zeros_like(some.places)
    groups = torch.arange(len(boxes), device=boxes.device)
    for i in range(boxes.shape[1]):
        iou = torch.where(started, paired_iou(fused, boxes[:, i, None]), -1.0)
        most, best = iou.max(dim=1)
        best = torch.where(
            most > threshold, (iou == most[:, None]).to(torch.uint8).argmax(dim=1), i
        )
        joined[:, i] = best
        weight = weights[:, i] * some.real[:, i]
        sums[groups, best] += weight
        totals[groups, best] += weight[:, None] * boxes[:, i]
        moved = totals[groups, best] / sums[groups, best, None]
        fused[groups, best] = torch.where(sums[groups, best, None] > 0, moved, fused[groups, best])
        started[groups, best] |= some.real[:, i]
    return some.places.gather(1, joined)
