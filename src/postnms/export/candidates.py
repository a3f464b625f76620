"""The candidates of each network as a program of ``torch.export`` can compute them.

The networks of ``postnms.detectors`` make lists with one entry for each image, whose lengths are
numbers of the host. A program knows them as symbols only. So the same steps are written here on
flat tensors, for images of one size. The modules, the settings and the arithmetic are those of the
networks.

B: images, K: classes, p: boxes of all images, n: candidates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from postnms.boxes import clip
from postnms.detectors.networks.cascade_rcnn import CascadeRCNN
from postnms.detectors.networks.faster_rcnn import FasterRCNN
from postnms.detectors.networks.fcos import FCOS
from postnms.detectors.networks.retinanet import RetinaNet
from postnms.detectors.networks.ssd import SSD
from postnms.detectors.parts.box_head import MIN_SIDE, score_pooled
from postnms.detectors.parts.deltas import decode
from postnms.detectors.parts.dense_head import DenseSettings
from postnms.ops import cluster_nms, pool_pyramid
from postnms.orders import top_per_image
from postnms.structures import Candidates, Level


@dataclass(frozen=True)
class Frames:
    """The images of a program, which have one size."""

    count: int
    """Number B of images."""
    padded: tuple[int, int]
    """(height, width) in pixels of the network's input."""
    size: Tensor
    """(2,) int64: (height, width) in pixels of the images in it."""


Features = Mapping[str, Tensor]
Found = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Boxes (n, 4), scores, labels, images and sources (n,) of candidates."""


def candidates_of(network: nn.Module, features: dict[str, Tensor], frames: Frames) -> Candidates:
    """Return the candidates of a network of this library in evaluation mode."""
    boxes, scores, labels, image, source = FOUND[type(network)](network, features, frames)
    return Candidates(boxes, scores, labels, image, source, frames.count)


def _faster_rcnn(network: Any, features: Features, frames: Frames) -> Found:
    proposals, image = _proposals(network.rpn, features, frames)
    logits, deltas, _ = _run_head(network.roi_heads, features, network.levels, proposals, image)
    return _select(network, network.roi_heads, proposals, image, logits.softmax(1), deltas, frames)


def _cascade_rcnn(network: Any, features: Features, frames: Frames) -> Found:
    boxes, image = _proposals(network.rpn, features, frames)
    heads = list(network.heads)
    for head in heads[:-1]:
        _, deltas, _ = _run_head(head, features, network.levels, boxes, image)
        boxes = clip(decode(head.box_coder, deltas[:, :4], boxes), frames.size)
    logits, deltas, pooled = _run_head(heads[-1], features, network.levels, boxes, image)
    every = [logits]
    if network.scoring == "mean":
        every = [*(score_pooled(head, pooled)[0] for head in heads[:-1]), logits]
    scores = torch.stack([part.softmax(1) for part in every]).mean(0)
    return _select(network, heads[-1], boxes, image, scores, deltas, frames)


def _proposals(rpn: Any, features: Features, frames: Frames) -> tuple[Tensor, Tensor]:
    """Return the proposals (p, 4) of all images and the image of each (p,).

    See :func:`postnms.detectors.parts.proposals.select_proposals`.
    """
    maps = list(features.values())
    objectness, deltas = rpn.head(maps)
    anchors = _anchors(rpn.anchor_generator, maps, frames)
    boxes, logits, level = [], [], []
    for number, (of_level, moves, cells) in enumerate(
        zip(objectness, deltas, anchors, strict=True)
    ):
        # (B, a, H, W) -> (B, H W a), as torchvision orders the anchors.
        flat = of_level.permute(0, 2, 3, 1).flatten(1)
        moves = moves.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
        most = torch.sym_min(rpn._pre_nms_top_n["testing"], flat.shape[1])
        best = flat.topk(most, dim=1)
        # Only the best anchors are moved. The network moves all of them, with the same result.
        rows = best.indices[..., None].expand(-1, -1, 4)
        moved = decode(rpn.box_coder, moves.gather(1, rows), cells[best.indices])
        boxes.append(clip(moved, frames.size))
        logits.append(best.values)
        level.append(torch.full_like(best.indices, number))
    every = torch.cat(boxes, 1).flatten(0, 1)
    scores, level = torch.cat(logits, 1).sigmoid(), torch.cat(level, 1).flatten()
    image = torch.arange(frames.count)[:, None].expand(scores.shape).flatten()
    scores = scores.flatten()
    large = ((every[:, 2:] - every[:, :2]) >= rpn.min_size).all(dim=1)
    kept = (large & (scores >= rpn.score_thresh)).nonzero().squeeze(1)
    every, scores, image, level = every[kept], scores[kept], image[kept], level[kept]
    keys, _ = cluster_nms(every, scores, image * len(maps) + level, rpn.nms_thresh)
    most = rpn._post_nms_top_n["testing"]
    best = keys[top_per_image(scores[keys], image[keys], frames.count, most)]
    return every[best], image[best]


def _run_head(
    head: Any, features: Features, levels: Mapping[str, Level], boxes: Tensor, image: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (p, C), deltas (p, 4 C) or (p, 4), and the pooled features of boxes (p, 4)."""
    maps = {name: features[name] for name in levels}
    strides = [level.stride for level in levels.values()]
    cells, samples = head.box_roi_pool.output_size[0], head.box_roi_pool.sampling_ratio
    pooled = pool_pyramid(maps, boxes, image, strides, cells, samples)
    logits, deltas, _ = score_pooled(head, pooled)
    return logits, deltas, pooled


def _select(
    network: Any,
    head: Any,
    boxes: Tensor,
    image: Tensor,
    scores: Tensor,
    deltas: Tensor,
    frames: Frames,
) -> Found:
    """Return the pairs of a box and a class that score over the threshold, decoded and clipped."""
    scores = network.classes.take(scores)
    row, label = (scores > head.score_thresh).nonzero(as_tuple=True)
    output = network.classes.of_labels(label)
    sets = deltas.unflatten(1, (-1, 4))
    chosen = sets[row, output] if sets.shape[1] > 1 else sets[row, 0]
    moved = clip(decode(head.box_coder, chosen, boxes[row]), frames.size)
    large = ((moved[:, 2:] - moved[:, :2]) >= MIN_SIDE).all(dim=1).nonzero().squeeze(1)
    row, label = row[large], label[large]
    return moved[large], scores[row, label], label, image[row], row


def _retinanet(network: Any, features: Features, frames: Frames) -> Found:
    maps = list(features.values())
    outputs = network.head(maps)
    scores = network.classes.take(outputs["cls_logits"].sigmoid())
    anchors = _anchors(network.anchor_generator, maps, frames)
    best = _best_of_levels(scores, anchors, network.settings)
    move = partial(decode, network.box_coder)
    return _decoded(scores, best, outputs, torch.cat(anchors), move, frames)


def _fcos(network: Any, features: Features, frames: Frames) -> Found:
    maps = list(features.values())
    outputs = network.head(maps)
    scores = network.classes.take(outputs["cls_logits"].sigmoid())
    scores = (scores * outputs["bbox_ctrness"].sigmoid()).sqrt()
    anchors = _anchors(network.anchor_generator, maps, frames)
    best = _best_of_levels(scores, anchors, network.settings)
    return _decoded(scores, best, outputs, torch.cat(anchors), network.box_coder.decode, frames)


def _ssd(network: Any, features: Features, frames: Frames) -> Found:
    maps = list(features.values())
    outputs = network.head(maps)
    scores = network.classes.take(outputs["cls_logits"].softmax(2))
    top = min(network.settings.topk_candidates, scores.shape[1])
    best = scores.topk(top, dim=1)  # (B, top, K)
    image, rank, label = (best.values > network.settings.score_thresh).nonzero(as_tuple=True)
    chosen = image, best.indices[image, rank, label], label
    anchors = _default_boxes(network, maps, frames)
    move = partial(decode, network.box_coder)
    return _decoded(scores, chosen, outputs, anchors, move, frames)


def _best_of_levels(
    scores: Tensor, anchors: list[Tensor], settings: DenseSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Return image, anchor and class of the best pairs of each level that score over the threshold.

    ``scores`` is (B, A, K). The threshold may come after the limit, since both keep the best.
    """
    classes = scores.shape[2]
    values, pairs, start = [], [], 0
    for cells in anchors:
        of_level = scores[:, start : start + cells.shape[0]].flatten(1)
        best = of_level.topk(torch.sym_min(settings.topk_candidates, of_level.shape[1]), dim=1)
        values.append(best.values)
        pairs.append(best.indices + start * classes)
        start = start + cells.shape[0]
    image, rank = (torch.cat(values, 1) > settings.score_thresh).nonzero(as_tuple=True)
    pair = torch.cat(pairs, 1)[image, rank]
    return image, pair // classes, pair % classes


def _decoded(
    scores: Tensor,
    chosen: tuple[Tensor, Tensor, Tensor],
    outputs: Mapping[str, Tensor],
    anchors: Tensor,
    decode_boxes: Callable[[Tensor, Tensor], Tensor],
    frames: Frames,
) -> Found:
    """Return the chosen pairs, decoded and clipped. See ``dense_head.select_candidates``."""
    image, anchor, label = chosen
    moved = decode_boxes(outputs["bbox_regression"][image, anchor], anchors[anchor])
    return clip(moved, frames.size), scores[image, anchor, label], label, image, anchor


def _anchors(generator: Any, maps: Sequence[Tensor], frames: Frames) -> list[Tensor]:
    """Return the anchors (A, 4) of each level, in the order of torchvision's generator."""
    height, width = frames.padded
    anchors = []
    for level, cell in zip(maps, generator.cell_anchors, strict=True):
        rows, columns = level.shape[2:]
        # The generator divides so too. The stride is not a power of two where a level is rounded.
        y = torch.arange(rows, dtype=torch.int64) * (height // rows)
        x = torch.arange(columns, dtype=torch.int64) * (width // columns)
        y, x = y[:, None].expand(-1, columns).flatten(), x[None].expand(rows, -1).flatten()
        shifts = torch.stack([x, y, x, y], dim=1)
        anchors.append((shifts[:, None] + cell).flatten(0, 1))
    return anchors


def _default_boxes(network: Any, maps: Sequence[Tensor], frames: Frames) -> Tensor:
    """Return the anchors (A, 4) of an SSD, whose input has one size."""
    grids = [list(level.shape[2:]) for level in maps]
    generator = network.anchor_generator
    centres = generator._grid_default_boxes(grids, list(frames.padded), dtype=torch.float32)
    scale = torch.tensor([frames.padded[1], frames.padded[0]])
    half = centres[:, 2:] / 2
    return torch.cat([centres[:, :2] - half, centres[:, :2] + half], 1) * scale.repeat(2)


FOUND: dict[type[nn.Module], Callable[..., Found]] = {
    FasterRCNN: _faster_rcnn,
    CascadeRCNN: _cascade_rcnn,
    RetinaNet: _retinanet,
    FCOS: _fcos,
    SSD: _ssd,
}
