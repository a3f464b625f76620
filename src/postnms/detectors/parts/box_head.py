"""The second stage of a two-stage detector: proposals in, class scores and box deltas out (Fast R-CNN, 1504.08083).

torchvision's ``RoIHeads`` holds the modules and settings of a head; what it does in one method, and in eval mode
only, are functions here. A head may have deltas for every class, or one set for all.

p: boxes of all images, C: classes and the background, which comes first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import RoIHeads

from postnms.boxes import clip
from postnms.detectors.image_batch import ImageBatch
from postnms.detectors.network import Selection
from postnms.detectors.parts.assignment import assign, boxes_of, labels_of, sample_rows
from postnms.detectors.parts.classes import Columns
from postnms.detectors.parts.proposals import SMOOTH_L1_BETA
from postnms.distributed.collectives import divisor
from postnms.ops.pooling.roi_align import pool_pyramid
from postnms.structures import Candidates, Level, limit

MIN_SIDE = 1e-2
"""Candidates with a shorter side, in pixels, are dropped, as torchvision does."""


@dataclass(frozen=True)
class Sample:
    """Boxes of each image that a head is trained on."""

    boxes: list[Tensor]
    rows: list[Tensor]
    """Of each image: rows of its proposals followed by its ground-truth boxes."""
    labels: list[Tensor]
    """0: background, -1: not trained on."""
    deltas: list[Tensor]
    """What moves each box onto its truth."""


@dataclass(frozen=True)
class Predictions:
    """What a head says of the boxes of each image."""

    boxes: list[Tensor]
    """The boxes that went in."""
    pooled: Tensor
    """(p, channels, s, s): their RoI features."""
    logits: Tensor
    """(p, C) float32."""
    deltas: Tensor
    """(p, 4 C) float32, or (p, 4) where they serve every class."""


def predict(
    head: RoIHeads,
    features: dict[str, Tensor],
    levels: Mapping[str, Level],
    boxes: list[Tensor],
) -> Predictions:
    """Pool the boxes of each image from the pyramid and run the head on them."""
    maps, strides = (
        {name: features[name] for name in levels},
        [level.stride for level in levels.values()],
    )
    cells, samples = head.box_roi_pool.output_size[0], head.box_roi_pool.sampling_ratio
    pooled = pool_pyramid(maps, torch.cat(boxes), image_of(boxes), strides, cells, samples)
    return Predictions(boxes, pooled, *score_pooled(head, pooled))


def score_pooled(head: RoIHeads, pooled: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and deltas of pooled boxes."""
    logits, deltas = head.box_predictor(head.box_head(pooled))
    return logits.float(), deltas.float()


def sample(
    head: RoIHeads,
    proposals: list[Tensor],
    truths: list[dict[str, Tensor]],
    generators: Sequence[torch.Generator] | None,
) -> Sample:
    """A sample of the proposals and the injected ground truth, matched."""
    whole = match(
        head,
        [torch.cat([p, truth["boxes"]]) for p, truth in zip(proposals, truths, strict=True)],
        truths,
    )
    rows = sample_rows(whole.labels, head.fg_bg_sampler, generators)
    columns = (whole.boxes, whole.rows, whole.labels, whole.deltas)
    return Sample(
        *([part[row] for part, row in zip(column, rows, strict=True)] for column in columns)
    )


def match(head: RoIHeads, boxes: list[Tensor], truths: list[dict[str, Tensor]]) -> Sample:
    """All boxes, matched."""
    matches = assign(head.proposal_matcher, boxes, truths)
    labels = [labels_of(found, truth) for found, truth in zip(matches, truths, strict=True)]
    wanted = [boxes_of(found, truth) for found, truth in zip(matches, truths, strict=True)]
    rows = [torch.arange(len(part), device=part.device) for part in boxes]
    return Sample(boxes, rows, labels, list(head.box_coder.encode(wanted, boxes)))


def losses(found: Predictions, sample: Sample) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the class and smooth-L1 of the deltas of positive boxes, both over the number of boxes."""
    labels, wanted = torch.cat(sample.labels), torch.cat(sample.deltas)
    positive = (labels > 0).nonzero().squeeze(1)
    deltas = deltas_of(found, positive, labels[positive])
    count = divisor(int((labels >= 0).sum()), labels.device)
    classifier = F.cross_entropy(found.logits, labels, ignore_index=-1, reduction="sum")
    location = F.smooth_l1_loss(deltas, wanted[positive], beta=SMOOTH_L1_BETA, reduction="sum")
    return classifier / count, location / count


def deltas_of(found: Predictions, rows: Tensor, columns: Tensor) -> Tensor:
    """Deltas (n, 4) of the given boxes and outputs of the classifier."""
    every = found.deltas.unflatten(1, (-1, 4))
    return every[rows, columns] if every.shape[1] > 1 else every[rows, 0]


def select(
    head: RoIHeads,
    found: Predictions,
    scores: Tensor,
    images: ImageBatch,
    columns: Columns,
    selection: Selection,
    rows: list[Tensor] | None = None,
) -> Candidates:
    """The (box, class) pairs with a score over the threshold, decoded and clipped: constants from here on.

    ``scores`` (p, C); ``rows``: where the boxes come from, if not from the proposals in their order.
    """
    image = image_of(found.boxes)
    source = torch.cat(
        rows or [torch.arange(len(part), device=part.device) for part in found.boxes]
    )
    own = columns.take(scores.detach())
    row, label = (own > selection.threshold(head.score_thresh)).nonzero(as_tuple=True)
    decoded = decode(head, found, row, columns.of_labels(label), images)
    large = ((decoded[:, 2:] - decoded[:, :2]) >= MIN_SIDE).all(
        dim=1
    )  # NaN is not: its losses will tell
    row, label = row[large], label[large]
    candidates = Candidates(
        decoded[large], own[row, label], label, image[row], source[row], num_images=len(found.boxes)
    )
    return limit(candidates, selection.most)


def decode(
    head: RoIHeads, found: Predictions, row: Tensor, column: Tensor, images: ImageBatch
) -> Tensor:
    """The given boxes (n,) moved by the deltas of the given outputs (n,), inside their image; no gradient -> (n, 4)."""
    moved = head.box_coder.decode_single(
        deltas_of(found, row, column).detach(), torch.cat(found.boxes)[row]
    )
    return clip(moved, torch.tensor(images.sizes, device=moved.device)[image_of(found.boxes)[row]])


def image_of(boxes: list[Tensor]) -> Tensor:
    """(p,) int64: the image of each box."""
    counts = torch.tensor([len(part) for part in boxes], device=boxes[0].device)
    return torch.arange(len(boxes), device=boxes[0].device).repeat_interleave(counts)
