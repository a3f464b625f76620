"""Pooling a pyramid, forward and backward, against torchvision's ``MultiScaleRoIAlign``: milliseconds and ratio.

python benchmarks/roi_align.py [--rounds 15] [--threads 1]
"""

import argparse

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from postnms.ops.roi_align import pool_pyramid
from timing import milliseconds


def pyramid(images: int, channels: int, side: int) -> dict[str, Tensor]:
    """Levels of strides 4 to 32 of square images."""
    return {str(i): torch.randn(images, channels, side >> i + 2, side >> i + 2, requires_grad=True) for i in range(4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(" images  channels  side  boxes      pass  ours ms  theirs ms  ratio")
    for images, channels, side, boxes_each in ((8, 64, 192, 128), (2, 256, 800, 512)):
        features, sizes = pyramid(images, channels, side), [(side, side)] * images
        corner = torch.rand(images, boxes_each, 2) * side * 0.8
        boxes = torch.cat([corner, corner + torch.rand(images, boxes_each, 2) * side * 0.2 + 1], 2)
        image = torch.arange(images).repeat_interleave(boxes_each)
        peer = MultiScaleRoIAlign(list(features), 7, 2)
        sides = {
            "ours": lambda f=features, b=boxes, i=image, s=sizes: pool_pyramid(f, b.flatten(0, 1), i, s),
            "theirs": lambda f=features, b=boxes, p=peer, s=sizes: p(f, list(b), s),
        }
        pooled = {name: call() for name, call in sides.items()}
        gradient = torch.randn_like(pooled["ours"])
        back = {
            name: lambda x=x, f=features, g=gradient: torch.autograd.grad(x, list(f.values()), g, retain_graph=True)
            for name, x in pooled.items()
        }
        for kind, calls in (("forward", sides), ("backward", back)):
            found = milliseconds(calls, arguments.rounds)
            ratio = found["theirs"] / found["ours"]
            print(
                f"{images:7d} {channels:9d} {side:5d} {images * boxes_each:6d} {kind:>9} {found['ours']:8.1f} "
                f"{found['theirs']:10.1f} {ratio:6.1f}"
            )


if __name__ == "__main__":
    main()
