"""Time the heads of learned rivals beside the detector that they look at.

    python benchmarks/rivals.py RUN [--data FOLDER] [--images 24] [--rounds 7] [--out FILE]

RUN has trained heads of both kinds, for example from

    postnms train RECIPE --data FOLDER --out RUN --from BARE --freeze detector \\
        --set stage=null --set heads.iou={} --set heads.density={}

The sides share the detector of the run, and take turns on the same val images in one process. All
of them run plain NMS. Times are those of the processor, so that other programs do not count. What
re-scoring takes is printed by ``postnms rescore``.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch

from detectors import candidates_of
from postnms.cli.console import command_line
from postnms.files.atomic import write_json
from postnms.runs.folder import RunFolder, read_recipe
from postnms.runs.provenance import provenance
from sides import build_side, time_sides, val_images

SIDES: dict[str, dict[str, Any]] = {
    "alone": {"heads.iou": None, "heads.density": None},
    "iou_guided_nms": {"heads.iou.refine_steps": 0, "heads.density": None},
    "iou_net": {"heads.density": None},
    "adaptive_nms": {"heads.iou": None},
}
"""By the row that each side gives, how its recipe differs from that of the run."""
MOST_RATIO = 1.15
"""Largest ratio of the time with a head to that of the detector alone that there should be."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = RunFolder(arguments.run)
    recipe = read_recipe(run)
    images = val_images(recipe, run, arguments.data, arguments.images)
    sides = {
        name: build_side(recipe, run, {"stage": None, **changes}) for name, changes in SIDES.items()
    }
    candidates = [len(candidates_of(sides["alone"], [image])) for image in images]
    times = time_sides(sides, images, arguments.rounds)
    ratios = {name: value / times["alone"] for name, value in times.items()}
    for name, ratio in ratios.items():
        judged = "" if ratio <= MOST_RATIO else f", above {MOST_RATIO}"
        print(f"{name:16} {times[name]:7.2f} ms  {ratio:.3f}{judged}")
    mean = statistics.mean(candidates)
    print(f"{len(images)} images, {mean:.0f} candidates in an image")
    if arguments.out is not None:
        figures = {"milliseconds": times, "ratios": ratios, "candidates": mean}
        origin = provenance(recipe.seed, arguments.data, command_line())
        write_json(arguments.out, {**origin, "run": run.root.name, **figures})


if __name__ == "__main__":
    main()
