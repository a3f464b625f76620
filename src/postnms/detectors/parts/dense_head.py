"""Candidates of detectors that score every anchor: RetinaNet, FCOS and SSD.

B: images, A: anchors of an image over all levels, K: classes, n: chosen (anchor, class) pairs.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from postnms.boxes import clip
from postnms.checks import trusted
from postnms.detectors.image_batch import ImageBatch
from postnms.detectors.modes import as_at_test
from postnms.detectors.network import Selection
from postnms.devices import constant
from postnms.errors import UserError
from postnms.structures import EXTRA_COLUMNS, Candidates, limit

Decode = Callable[[Tensor, Tensor], Tensor]
"""Moves anchors (n, 4) by deltas (n, 4), given in the order (deltas, anchors): boxes (n, 4)."""

Chosen = tuple[Tensor, ...]
"""Image, anchor and class of each chosen pair: three (n,) int64."""


@dataclass(frozen=True)
class DenseSettings:
    """How many anchors become candidates; the names are torchvision's."""

    topk_candidates: int
    """Largest number of candidates for each level (RetinaNet, FCOS) or class (SSD) of an image."""
    score_thresh: float
    """Candidates score more than this."""


def run_as_at_test(
    head: nn.Module, levels: list[Tensor], outputs: dict[str, Tensor], selection: Selection
) -> dict[str, Tensor]:
    """Return the head's outputs in evaluation mode, detached and in float32.

    ``outputs`` are those of the pass that the losses were computed from. They are reused unless
    the head has batch norm in training mode; then the head runs again. If only the losses are
    asked for, the outputs are those of no image.
    """
    if selection.origin == "sampled":
        raise UserError(
            "stage.candidates: expected 'proposals' for a detector without proposals, got 'sampled'"
        )
    if selection.losses_only:
        return {name: output.detach()[:0] for name, output in outputs.items()}
    norms = [p for p in head.modules() if isinstance(p, nn.modules.batchnorm._BatchNorm)]
    if any(norm.training for norm in norms):
        with as_at_test(head):
            outputs = head(levels)
    return {name: output.detach().float() for name, output in outputs.items()}


def anchors_per_level(levels: Sequence[Tensor], anchors: Sequence[Tensor]) -> list[int]:
    """Return how many anchors of an image each level has.

    ``levels`` (B, channels, H, W) and the anchors (A, 4) of each image are those of one pyramid
    with equally many anchors in every cell.
    """
    cells = [level.shape[2] * level.shape[3] for level in levels]
    return [count * len(anchors[0]) // sum(cells) for count in cells]


def best_of_levels(
    scores: Tensor, per_level: list[int], settings: DenseSettings, selection: Selection
) -> Chosen:
    """Choose the best (anchor, class) pairs of each image and level that score over the threshold.

    ``scores`` is (B, A, K). RetinaNet and FCOS limit their candidates so.
    """
    threshold = selection.threshold(settings.score_thresh)
    images, anchors, classes = scores.shape
    # The threshold first: a top-k over all anchors of a large level would sort in vain.
    over = (scores > threshold).flatten().nonzero().squeeze(1)
    values = scores.flatten()[over]
    # The pairs of all images and levels lie one behind the other. The host waits for a GPU once
    # for their number, and once for where the pairs of each level end.
    ends = constant(
        list(itertools.accumulate([count * classes for count in per_level] * images)),
        torch.int64,
        scores.device,
    )
    stops = torch.searchsorted(over, ends).tolist()
    chosen = [over[:0]]
    for start, stop in itertools.pairwise([0, *stops]):
        most = min(settings.topk_candidates, stop - start)
        chosen.append(over[start:stop][values[start:stop].topk(most).indices])
    best = torch.cat(chosen)
    return best // (anchors * classes), best // classes % anchors, best % classes


def best_of_classes(scores: Tensor, settings: DenseSettings, selection: Selection) -> Chosen:
    """Choose the best anchors of each image and class that score over the threshold.

    ``scores`` is (B, A, K). SSD limits its candidates so.
    """
    threshold = selection.threshold(settings.score_thresh)
    top = min(settings.topk_candidates, scores.shape[1])
    best = scores.topk(top, dim=1)  # (B, top, K)
    image, rank, label = (best.values > threshold).nonzero(as_tuple=True)
    return image, best.indices[image, rank, label], label


def select_candidates(
    scores: Tensor,
    chosen: Chosen,
    outputs: dict[str, Tensor],
    anchors: list[Tensor],
    decode: Decode,
    images: ImageBatch,
    selection: Selection,
) -> Candidates:
    """Decode and clip the chosen pairs.

    Args:
        scores: (B, A, K).
        chosen: image, anchor and class of each pair.
        outputs: the head's outputs by name, detached. ``bbox_regression`` is (B, A, 4). An output
            with the name of a known extra column becomes that column; it is (B, A, K) or
            (B, A, K, c), or (B, A, 1) or (B, A, 1, c) where one value serves every class.
        anchors: (A, 4) for each image.
        decode: moves anchors by deltas.
        images: the batch that the anchors lie in.
        selection: which candidates are asked for.

    Raises:
        UserError: features of a box head are asked for.
    """
    if selection.features:
        raise UserError(
            "features: expected a detector with box heads (faster_rcnn, cascade_rcnn, or "
            "torchvision's Faster R-CNN), got one without"
        )
    image, anchor, label = chosen
    boxes = decode(outputs["bbox_regression"][image, anchor], torch.stack(anchors)[image, anchor])
    boxes = clip(boxes, constant(images.sizes, torch.int64, boxes.device)[image])
    # Boxes that are not finite are dropped here. Their loss stops a diverged training run.
    finite = torch.isfinite(boxes).all(dim=1).nonzero().squeeze(1)
    boxes, image, anchor, label = boxes[finite], image[finite], anchor[finite], label[finite]
    extra = {}
    for name in outputs.keys() & EXTRA_COLUMNS.keys():
        values = outputs[name]
        extra[name] = values[image, anchor, label if values.shape[2] > 1 else 0]
    with trusted():
        candidates = Candidates(
            boxes, scores[image, anchor, label], label, image, anchor, len(images.sizes), extra
        )
    return limit(candidates, selection.most)
