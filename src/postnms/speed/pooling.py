"""Pooling a pyramid, forward and backward, against torchvision's ``MultiScaleRoIAlign``."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from postnms.ops.pooling.roi_align import pool_pyramid
from postnms.speed.timing import BUDGET, Timing, measure, torch_threads

SIZES = ((8, 64, 192, 128), (2, 256, 800, 512))
"""Images, channels, their side in pixels, boxes an image."""
STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Pooling:
    """Times of one direction at one size."""

    images: int
    channels: int
    side: int
    boxes: int
    direction: str
    threads: int
    ours: Timing
    theirs: Timing


def compare(
    sizes: Iterable[tuple[int, int, int, int]], rounds: int, threads: int, budget: float = BUDGET
) -> list[Pooling]:
    """Time both libraries at each size; ``forward`` is with the graph that ``backward`` then goes back over."""
    found = []
    with torch_threads(threads):
        for images, channels, side, boxes_each in sizes:
            for direction, sides in _sides(images, channels, side, boxes_each).items():
                times = measure(sides, rounds, budget=budget)
                size = (images, channels, side, images * boxes_each)
                found.append(Pooling(*size, direction, threads, times["ours"], times["theirs"]))
    return found


def _sides(
    images: int, channels: int, side: int, boxes_each: int
) -> dict[str, dict[str, Callable[[], object]]]:
    random = torch.Generator().manual_seed(0)
    features, sizes = _pyramid(images, channels, side, random), [(side, side)] * images
    corner = torch.rand(images, boxes_each, 2, generator=random) * side * 0.8
    boxes = torch.cat(
        [corner, corner + torch.rand(images, boxes_each, 2, generator=random) * side * 0.2 + 1], 2
    )
    image = torch.arange(images).repeat_interleave(boxes_each)
    peer = MultiScaleRoIAlign(list(features), 7, 2)
    forward: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: pool_pyramid(features, boxes.flatten(0, 1), image, STRIDES),
        "theirs": lambda: peer(features, list(boxes), sizes),
    }
    pooled = {name: call() for name, call in forward.items()}
    gradient = torch.randn(pooled["ours"].shape, generator=random)
    levels = list(features.values())
    backward = {
        name: lambda x=x: torch.autograd.grad(x, levels, gradient, retain_graph=True)
        for name, x in pooled.items()
    }
    return {"forward": dict(forward), "backward": dict(backward)}


def _pyramid(images: int, channels: int, side: int, random: torch.Generator) -> dict[str, Tensor]:
    """The levels of square images, by ``STRIDES``."""
    shapes = {
        str(i): (images, channels, side // stride, side // stride)
        for i, stride in enumerate(STRIDES)
    }
    return {
        name: torch.randn(shape, generator=random).requires_grad_()
        for name, shape in shapes.items()
    }
