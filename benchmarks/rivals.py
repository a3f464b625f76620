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
import time
from pathlib import Path
from typing import Any

import torch

from detectors import candidates_of
from postnms.cli.console import command_line
from postnms.data.splits import open_val
from postnms.detectors import Detector
from postnms.files.atomic import write_json
from postnms.files.state_dicts import load_weights
from postnms.recipes import Recipe, override
from postnms.runs.checkpoints import read_weights
from postnms.runs.folder import RunFolder, read_categories, read_recipe
from postnms.runs.loading import build_run_detector, without_weights
from postnms.runs.provenance import provenance

SIDES: dict[str, dict[str, Any]] = {
    "alone": {"heads.iou": None, "heads.density": None},
    "iou_guided_nms": {"heads.iou.refine_steps": 0, "heads.density": None},
    "iou_net": {"heads.density": None},
    "adaptive_nms": {"heads.iou": None},
}
"""By the row that each side gives, how its recipe differs from that of the run."""
MOST_RATIO = 1.15
"""Largest ratio of the time with a head to that of the detector alone that there should be."""


def build_side(recipe: Recipe, run: RunFolder, changes: dict[str, Any]) -> Detector:
    """Return a detector with the weights of a run, in evaluation mode."""
    categories = read_categories(run)
    bare = {**changes, "stage": None, "training.freeze": "none", "training.start_from": None}
    changed = without_weights(override(recipe, bare), len(categories))
    detector = build_run_detector(changed, len(categories))
    weights = read_weights(run.newest_weights)
    load_weights(detector.get_submodule("network"), weights.network, str(run.root))
    own = detector.heads.state_dict() if detector.heads else {}
    heads = {name: tensor for name, tensor in weights.heads.items() if name in own}
    if detector.heads:
        load_weights(detector.heads, heads, f"{run.root}: heads")
    return detector.eval()


@torch.no_grad()
def time_sides(
    sides: dict[str, Detector], images: list[torch.Tensor], rounds: int
) -> dict[str, float]:
    """Return the median milliseconds of the processor for an image of each side."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, detector in sides.items():
            begin = time.process_time()
            for image in images:
                detector([image])
            if number:  # The first round compiles kernels.
                taken[name].append(1000 * (time.process_time() - begin) / len(images))
    return {name: statistics.median(values) for name, values in taken.items()}


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
    size, categories = recipe.detector.input_size, read_categories(run)
    data = open_val(recipe.data, arguments.data, categories, size, recipe.seed)
    images = [data[i].image for i in range(min(arguments.images, len(data)))]
    sides = {name: build_side(recipe, run, changes) for name, changes in SIDES.items()}
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
