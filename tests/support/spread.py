"""Losses and gradients of every detector on one process's share of a batch, for ``test_spreading``.

``python -m tests.support.spread MEETING`` is the second of two processes that meet in that file.
"""

import datetime
import sys

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from postnms.detectors.parts.pisa import PISAConfig
from postnms.stage import StageConfig
from postnms.structures import Targets, of_image
from tests.support.builders import truths
from tests.support.detectors import CASES, build, images

BATCH = images((100, 130), (150, 110), (90, 160), (60, 60))
TRUTHS = truths(
    [
        (10, 10, 60, 70),
        (50, 40, 120, 95),
        (30, 80, 90, 140),
        (5, 5, 50, 40),
        (60, 10, 150, 80),
        (20, 20, 55, 50),
    ],
    [0, 2, 1, 0, 1, 2],
    [0, 0, 1, 2, 2, 2],
    num_images=4,
)
"""Unequal: three objects in one image, none in the last."""
FURTHER = {
    "frozen": {"frozen": True},
    "kl": {"box_coding": "edges", "box_loss": "kl"},
    "pisa": {"pisa": PISAConfig()},
}
"""More cases of Faster R-CNN, by name: options of ``build``."""


def share(rank: int, world: int) -> tuple[list[torch.Tensor], Targets, list[torch.Generator]]:
    places = list(range(rank, len(BATCH), world))
    parts = [of_image(TRUTHS, place) for place in places]
    targets = Targets(
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat([part.image + index for index, part in enumerate(parts)]),
        torch.cat([part.crowd for part in parts]),
        num_images=len(parts),
    )
    return (
        [BATCH[place] for place in places],
        targets,
        [torch.Generator().manual_seed(place) for place in places],
    )


def losses_and_gradients(rank: int, world: int) -> dict[str, dict[str, float]]:
    """By case, averaged over the processes: the loss terms and the gradient's magnitude."""
    found = {}
    every = {name: (name, {}) for name in CASES} | {
        case: ("faster_rcnn", options) for case, options in FURTHER.items()
    }
    for case, (name, options) in every.items():
        stage = StageConfig(width=16, positive_iou=0.05)
        detector = build(name, stage, **options).eval()  # With fixed batch norm.
        model = DistributedDataParallel(detector) if world > 1 else detector
        given, targets, generators = share(rank, world)
        losses = model(given, targets, generators=generators).losses
        sum(losses.values()).backward()
        values = torch.stack([loss.detach() for loss in losses.values()])
        if world > 1:
            distributed.all_reduce(values)
            values /= world
        gradient = sum(
            p.grad.double().abs().sum() for p in detector.parameters() if p.grad is not None
        )
        terms = dict(zip(losses, values.tolist(), strict=True))
        found[case] = terms | {"gradient": float(gradient)}
    return found


def as_one_of_two(rank: int, meeting: str) -> dict[str, dict[str, float]]:
    """:func:`losses_and_gradients` in a process that meets another one in the file ``meeting``."""
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(minutes=2),
    )
    try:
        return losses_and_gradients(rank, 2)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    as_one_of_two(1, sys.argv[1])
