"""``cluster_nms`` against torchvision's NMS: milliseconds and ratio, one thread each, taking turns.

python benchmarks/cluster_nms.py [--rounds 15]
"""

import argparse

import torch
import torchvision
from torch import Tensor

from postnms.ops import cluster_nms
from timing import milliseconds


def scene(count: int, groups: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """About ten boxes an object, at constant density."""
    random = torch.Generator().manual_seed(seed)
    objects = max(count // 10, 1)
    which = torch.arange(count) % objects
    centre = (torch.rand(objects, 2, generator=random) * 30 * count**0.5)[which]
    side = (torch.rand(objects, 2, generator=random) * 60 + 30)[which]
    middle = centre + torch.randn(count, 2, generator=random) * 6
    half = side * (1 + 0.1 * torch.randn(count, 2, generator=random).clamp(-2, 2)) / 2
    group = torch.randint(groups, (objects,), generator=random)[which]
    return torch.cat([middle - half, middle + half], 1), torch.rand(count, generator=random), group


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"{'boxes':>8} {'groups':>7} {'cluster_nms ms':>15} {'torchvision ms':>15} {'ratio':>6}")
    for count, groups in ((1000, 80), (1000, 1), (4000, 320), (5000, 1), (20000, 80)):
        boxes, scores, group = scene(count, groups)
        found = milliseconds(
            {
                "ours": lambda b=boxes, s=scores, g=group: cluster_nms(b, s, g, 0.5),
                "theirs": lambda b=boxes, s=scores, g=group: torchvision.ops.batched_nms(b, s, g, 0.5),
            },
            rounds,
        )
        ratio = found["theirs"] / found["ours"]
        print(f"{count:8d} {groups:7d} {found['ours']:15.3f} {found['theirs']:15.3f} {ratio:6.1f}")


if __name__ == "__main__":
    main()
