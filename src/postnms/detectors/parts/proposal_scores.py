"""Scores of the proposals of a training step, as evaluation mode gives them.

The stage is trained on proposals that are scored in evaluation mode. The detector's own losses have
scored a sample of them already. Where a head computes the same in both modes, these scores are
taken over, and only the other proposals are scored.

p: proposals of all images, q: boxes of the sample of all images.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import Conv2dNormActivation, FrozenBatchNorm2d

from postnms.detectors.modes import as_at_test
from postnms.detectors.parts.box_head import Predictions
from postnms.detectors.parts.edges import EdgePredictor

ALIKE = (
    nn.Sequential, nn.Linear, nn.Conv2d, nn.ReLU, nn.Flatten, nn.Identity, nn.GroupNorm,
    nn.LayerNorm, FrozenBatchNorm2d, Conv2dNormActivation, TwoMLPHead, FastRCNNConvFCHead,
    FastRCNNPredictor, EdgePredictor,
)  # fmt: skip
"""Modules that compute the same in training mode and in evaluation mode."""


def is_alike(head: RoIHeads, further: tuple[type[nn.Module], ...] = ()) -> bool:
    """Return whether a head is known to compute the same in training and in evaluation mode.

    Batch norm, dropout and modules of unknown types are not. ``further`` are more types that are.
    """
    parts = [*head.box_head.modules(), *head.box_predictor.modules()]
    # Subclasses may override `forward`, so the types are compared exactly.
    return all(type(part) in ALIKE + further for part in parts)


def predict_proposals(
    predict: Callable[[list[Tensor]], Predictions],
    heads: nn.Module,
    proposals: Sequence[Tensor],
    most: int,
    sampled: tuple[Predictions, Sequence[Tensor]] | None,
) -> Predictions:
    """Return the outputs for the best proposals of each image, as evaluation mode gives them.

    Args:
        predict: runs the heads on the boxes of each image.
        heads: the module that is put into evaluation mode meanwhile.
        proposals: the proposals of each image in training, best first.
        most: largest number of proposals of an image in evaluation mode.
        sampled: the outputs for a sample, and for each image the rows of its boxes among the
            proposals, -1 for others, as in ``HeadSample.rows``. None: nothing is taken over.

    Returns:
        The outputs (p, ...) without gradients, for the first ``most`` proposals of each image. The
        boxes are the proposals, or where the heads move them in between, the moved ones. With a
        sample the pooled features are not kept.
    """
    best = [part[:most] for part in proposals]
    with as_at_test(heads):
        if sampled is None:
            return predict(best)
        known, rows = sampled
        lengths = [len(part) for part in best]
        place = _places(best, rows)
        # Boxes of the sample that are no proposal share one more place at the end.
        is_known = place.new_zeros(sum(lengths) + 1, dtype=torch.bool)
        is_known[place] = True
        unknown = [(~part).sum() for part in is_known[:-1].split(lengths)]
        # The numbers reach the host together, because each transfer waits for the device.
        counts = torch.stack(unknown).tolist()
        others = is_known[:-1].int().argsort(stable=True)[: sum(counts)]
        fresh = predict(list(torch.cat(best)[others].split(counts)))
    # Rows of both in one list: first the sample, then the others, in the order of the proposals.
    order = torch.empty_like(is_known, dtype=torch.int64)
    order[place] = torch.arange(len(place), device=order.device)
    order[others] = len(place) + torch.arange(len(others), device=order.device)
    order = order[:-1]

    def joined(one: Tensor, other: Tensor) -> Tensor:
        return torch.cat([one.detach(), other])[order]

    boxes = joined(torch.cat(known.boxes), torch.cat(fresh.boxes))
    return Predictions(
        list(boxes.split(lengths)),
        None,
        joined(known.logits, fresh.logits),
        joined(known.deltas, fresh.deltas),
        {name: joined(value, fresh.extra[name]) for name, value in known.extra.items()},
    )


def _places(proposals: Sequence[Tensor], rows: Sequence[Tensor]) -> Tensor:
    """Return for each box of the sample its row among the proposals of all images: (q,) int64.

    A box that is none of them has the number of proposals, p.
    """
    total = sum(len(part) for part in proposals)
    places = []
    start = 0
    for part, row in zip(proposals, rows, strict=True):
        places.append(torch.where((row >= 0) & (row < len(part)), row + start, total))
        start += len(part)
    return torch.cat(places)
