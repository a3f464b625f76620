"""True boxes that are moved at random: what the heads are trained on (IoU-Net, section 3.1).

Boxes of a detector would have the IoUs that this detector gives. Moved boxes have all IoUs from
0.5 to 1 equally often, and any detector can use what is learnt from them.

m: objects of the batch, d: drawn boxes of an image, r: boxes of the batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from postnms.boxes import clip, paired_iou
from postnms.devices import constant
from postnms.structures import Targets

LEAST_IOU = 0.5
"""A moved box that overlaps its object less is not used."""
BINS = 5
"""Number of equal intervals of the IoU from which equally many boxes are taken."""
LARGEST_SHIFT = 1.0
"""Largest distance that the centre is moved along an axis, in sides of the box."""
LARGEST_AREA_RATIO = 3.0
"""The area of a moved box is between its inverse and itself times the true area."""


@dataclass(frozen=True)
class MovedBoxes:
    """Boxes near objects, of all images."""

    boxes: Tensor
    """(r, 4) float32, xyxy, pixels."""
    truth: Tensor
    """(r,) int64: row of the object of each box in the targets."""
    iou: Tensor
    """(r,) float32 in [0.5, 1]: IoU of each box with its object."""


def move_truths(
    targets: Targets,
    sizes: Sequence[tuple[int, int]],
    samples: int,
    draws: int,
    generators: Sequence[torch.Generator] | None = None,
) -> MovedBoxes:
    """Return moved true boxes of all images, in the order of the images.

    Args:
        targets: the objects. Crowd regions are not moved.
        sizes: (height, width) of each image, which boxes are clipped to.
        samples: largest number of boxes of an image.
        draws: number of drawn boxes for each of ``samples``.
        generators: the source of the random draws for each image. None: torch's own generator.
    """
    parts = [
        _of_image(targets, number, size, samples, draws, generators[number] if generators else None)
        for number, size in enumerate(sizes)
    ]
    return MovedBoxes(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _of_image(
    targets: Targets,
    number: int,
    size: tuple[int, int],
    samples: int,
    draws: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the moved boxes of one image, their objects and their IoUs."""
    rows = ((targets.image == number) & ~targets.crowd).nonzero().squeeze(1)
    device = targets.boxes.device
    if not len(rows):
        return targets.boxes[:0], rows, targets.boxes[:0, 0]
    count = samples * draws
    # Every object is moved equally often.
    truth = rows[torch.arange(count, device=device) % len(rows)]
    noise = torch.rand(count, 5, generator=generator, device=device)
    boxes = clip(_moved(targets.boxes[truth], noise), constant(size, torch.int64, device))
    iou = paired_iou(boxes, targets.boxes[truth])
    chosen = _balanced(iou, samples)
    return boxes[chosen], truth[chosen], iou[chosen]


def _moved(boxes: Tensor, noise: Tensor) -> Tensor:
    """Move boxes (d, 4) by noise (d, 5) in [0, 1).

    The first column of the noise scales the others. So small moves, which leave a high IoU, are as
    frequent as large ones.
    """
    scale = noise[:, :1]
    direction = (2 * noise[:, 1:] - 1) * scale
    side = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + side / 2 + LARGEST_SHIFT * direction[:, :2] * side
    # Each side takes half of the ratio of the areas.
    half = side / 2 * torch.exp(math.log(LARGEST_AREA_RATIO) / 2 * direction[:, 2:])
    return torch.cat([centre - half, centre + half], dim=1)


def _balanced(iou: Tensor, samples: int) -> Tensor:
    """Return at most ``samples`` rows of drawn boxes, from all intervals of the IoU in turn.

    ``iou`` is (d,). Rows are in a random order, as the draws are.
    """
    width = (1 - LEAST_IOU) / BINS
    interval = ((iou - LEAST_IOU) / width).floor().long().clamp(0, BINS - 1)
    is_used = iou >= LEAST_IOU
    member = torch.nn.functional.one_hot(interval, BINS) * is_used[:, None]
    # The place of a box among those of its interval. All first ones come before all second ones.
    place = member.cumsum(dim=0).gather(1, interval[:, None]).squeeze(1)
    place = torch.where(is_used, place, len(iou) + 1)
    order = place.argsort(stable=True)[:samples]
    return order[: int(is_used.sum().clamp(max=samples))]
