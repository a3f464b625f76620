"""Candidates of detectors that score every anchor (RetinaNet, FCOS, SSD), without proposals.

B: images, A: anchors of an image over all levels, K: classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from postnms.boxes import clip
from postnms.detectors.image_batch import ImageBatch
from postnms.detectors.modes import as_at_test
from postnms.detectors.network import Selection
from postnms.errors import UserError
from postnms.structures import Candidates, limit

Decode = Callable[[Tensor, Tensor], Tensor]
"""Deltas (n, 4) and anchors (n, 4) -> boxes (n, 4)."""


@dataclass(frozen=True)
class DenseSettings:
    """How anchors become detections."""

    topk_candidates: int
    score_thresh: float
    nms_thresh: float
    detections_per_img: int


def run_as_at_test(
    head: nn.Module, levels: list[Tensor], outputs: dict[str, Tensor], selection: Selection
) -> dict[str, Tensor]:
    """Outputs of the head as at test time, constants: those of the losses' own pass, unless batch norm differs there.

    Empty, of no image, if no candidates are wanted.
    """
    if selection.origin == "sampled":
        raise UserError(
            "stage.candidates: expected 'proposals' for a detector without proposals, got 'sampled'"
        )
    if selection.origin == "none":
        return {name: output.detach()[:0] for name, output in outputs.items()}
    if any(
        isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training
        for part in head.modules()
    ):
        with as_at_test(head):
            outputs = head(levels)
    return {name: output.detach().float() for name, output in outputs.items()}


def anchors_per_level(levels: Sequence[Tensor], anchors: Sequence[Tensor]) -> list[int]:
    """Of levels (B, channels, H, W) and the anchors (A, 4) of each image, equally many at every cell."""
    cells = [level.shape[2] * level.shape[3] for level in levels]
    return [count * len(anchors[0]) // sum(cells) for count in cells]


def best_of_levels(
    scores: Tensor, per_level: list[int], settings: DenseSettings, selection: Selection
) -> tuple[Tensor, ...]:
    """The best (anchor, class) pairs over the score threshold of each image and level.

    Scores (B, A, K) -> image, anchor and class (n,) int64 of each pair.
    """
    threshold = selection.threshold(settings.score_thresh)
    classes, top = scores.shape[2], settings.topk_candidates
    chosen = [torch.zeros(3, 0, dtype=torch.int64, device=scores.device)]
    for image, of_image in enumerate(scores):
        start = 0
        for count in per_level:
            level = of_image[start : start + count].flatten()
            over = (level > threshold).nonzero().squeeze(1)
            best = over[level[over].topk(min(top, len(over))).indices]
            chosen.append(
                torch.stack([torch.full_like(best, image), start + best // classes, best % classes])
            )
            start += count
    return tuple(torch.cat(chosen, dim=1))


def best_of_classes(
    scores: Tensor, settings: DenseSettings, selection: Selection
) -> tuple[Tensor, ...]:
    """The best anchors over the score threshold of each image and class; as :func:`best_of_levels`."""
    threshold = selection.threshold(settings.score_thresh)
    best = scores.topk(min(settings.topk_candidates, scores.shape[1]), dim=1)  # (B, top, K)
    image, place, label = (best.values > threshold).nonzero(as_tuple=True)
    return image, best.indices[image, place, label], label


def select(
    scores: Tensor,
    chosen: tuple[Tensor, ...],
    deltas: Tensor,
    anchors: list[Tensor],
    decode: Decode,
    images: ImageBatch,
    selection: Selection,
) -> Candidates:
    """Decode and clip the chosen (image, anchor, class) rows: constants from here on. Deltas (B, A, 4)."""
    image, row, label = chosen
    boxes = decode(deltas[image, row], torch.stack(anchors)[image, row])
    boxes = clip(boxes, torch.tensor(images.sizes, device=boxes.device)[image])
    finite = torch.isfinite(boxes).all(dim=1)  # what is not is left out: its losses will tell
    boxes, image, row, label = boxes[finite], image[finite], row[finite], label[finite]
    found = Candidates(boxes, scores[image, row, label], label, image, row, len(images.sizes))
    return limit(found, selection.most)
