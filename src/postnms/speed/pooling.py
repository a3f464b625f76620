"""Speed of ``pool_pyramid`` beside torchvision's ``MultiScaleRoIAlign``, forward and backward."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from postnms.ops.pooling.roi_align import pool_pyramid
from postnms.speed.timing import BUDGET, Timing, measure, torch_threads

SIZES = ((8, 64, 192, 128), (2, 256, 800, 512))
"""Sizes of the inputs: images, channels, side of the square images in pixels, boxes per image."""

STRIDES = (4, 8, 16, 32)
"""Strides of the pyramid levels in pixels."""


@dataclass(frozen=True)
class Pooling:
    """Times of both libraries for one pass at one size."""

    images: int
    channels: int
    side: int
    """Side of the square images in pixels."""
    boxes: int
    """Number of boxes of all images together."""
    direction: str
    """The pass that was timed, ``"forward"`` or ``"backward"``."""
    threads: int
    """Number of CPU threads."""
    ours: Timing
    theirs: Timing
    """Time of torchvision."""


def compare_pooling(
    sizes: Iterable[tuple[int, int, int, int]], rounds: int, threads: int, budget: float = BUDGET
) -> list[Pooling]:
    """Time both libraries at each size.

    The time of the forward pass includes the recording of the autograd graph. The backward pass is
    timed alone, on a graph that was recorded before. It gives the gradients of the features.

    Args:
        sizes: (images, channels, side in pixels, boxes per image), as in :data:`SIZES`.
        rounds: how often each call is timed.
        threads: number of CPU threads.
        budget: seconds after which a call is not repeated again.

    Returns:
        For each size, the forward and then the backward pass.
    """
    poolings = []
    with torch_threads(threads):
        for images, channels, side, boxes_each in sizes:
            for direction, sides in _sides(images, channels, side, boxes_each).items():
                times = measure(sides, rounds, budget=budget)
                size = (images, channels, side, images * boxes_each)
                poolings.append(Pooling(*size, direction, threads, times["ours"], times["theirs"]))
    return poolings


def _sides(
    images: int, channels: int, side: int, boxes_each: int
) -> dict[str, dict[str, Callable[[], object]]]:
    """Return the calls to time, by pass (forward, backward) and side (ours, theirs).

    Both sides pool the same random boxes from the same random pyramid.
    """
    random = torch.Generator().manual_seed(0)
    features = _pyramid(images, channels, side, random)
    sizes = [(side, side)] * images
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
    # The graphs are recorded here once, so that the backward pass can be timed alone and repeated.
    pooled = {name: call() for name, call in forward.items()}
    gradient = torch.randn(pooled["ours"].shape, generator=random)
    levels = list(features.values())
    backward = {
        name: lambda x=x: torch.autograd.grad(x, levels, gradient, retain_graph=True)
        for name, x in pooled.items()
    }
    return {"forward": dict(forward), "backward": dict(backward)}


def _pyramid(images: int, channels: int, side: int, random: torch.Generator) -> dict[str, Tensor]:
    """Return a random pyramid of square images, with one level for each of :data:`STRIDES`."""
    shapes = {
        str(i): (images, channels, side // stride, side // stride)
        for i, stride in enumerate(STRIDES)
    }
    return {
        name: torch.randn(shape, generator=random).requires_grad_()
        for name, shape in shapes.items()
    }
