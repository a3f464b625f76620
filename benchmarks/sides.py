"""Detectors that share the weights of one run, timed in turns on the same images."""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
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
from postnms.runs.folder import RunFolder, read_categories
from postnms.runs.loading import build_run_detector, without_weights
from postnms.runs.provenance import provenance


def parse_arguments(description: str) -> argparse.Namespace:
    """Return the run, the data, and how many images are looked at how often."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


def compare_sides(
    arguments: argparse.Namespace,
    recipe: Recipe,
    changes: Mapping[str, Mapping[str, Any]],
    aims: Mapping[str, float],
) -> None:
    """Time the sides of a run on one thread, print the times, and write them if asked to.

    Args:
        arguments: those of :func:`parse_arguments`.
        recipe: that of the run.
        changes: by the name of each side, how its recipe differs. The first side is the detector
            alone, to whose time those of the others are set in relation.
        aims: by the name of a side, the largest ratio that there should be.
    """
    torch.set_num_threads(1)
    run = RunFolder(arguments.run)
    images = val_images(recipe, run, arguments.data, arguments.images)
    sides = {name: build_side(recipe, run, change) for name, change in changes.items()}
    alone = next(iter(sides))
    candidates = statistics.mean(len(candidates_of(sides[alone], [image])) for image in images)
    times = time_sides(sides, images, arguments.rounds)
    ratios = {name: value / times[alone] for name, value in times.items()}
    for name, ratio in ratios.items():
        judged = f", above {aims[name]}" if ratio > aims.get(name, ratio) else ""
        print(f"{name:26} {times[name]:7.2f} ms  {ratio:.3f}{judged}")
    print(f"{len(images)} images, {candidates:.0f} candidates in an image")
    if arguments.out is not None:
        figures = {"milliseconds": times, "ratios": ratios, "candidates": candidates}
        origin = provenance(recipe.seed, arguments.data, command_line())
        write_json(arguments.out, {**origin, "run": run.root.name, **figures})


def build_side(recipe: Recipe, run: RunFolder, changes: Mapping[str, Any]) -> Detector:
    """Return a detector with the weights of a run, in evaluation mode.

    ``changes`` alter the recipe of the run. The stage, or some of the heads, may be left out.
    """
    categories = read_categories(run)
    free = {"training.freeze": "none", "training.start_from": None, **changes}
    changed = without_weights(override(recipe, free), len(categories))
    detector = build_run_detector(changed, len(categories))
    weights = read_weights(run.newest_weights)
    load_weights(detector.get_submodule("network"), weights.network, str(run.root))
    if detector.stage:
        load_weights(detector.stage, weights.stage, f"{run.root}: stage")
    if detector.heads:
        own = detector.heads.state_dict()
        heads = {name: tensor for name, tensor in weights.heads.items() if name in own}
        load_weights(detector.heads, heads, f"{run.root}: heads")
    return detector.eval()


def val_images(recipe: Recipe, run: RunFolder, data: Path | None, count: int) -> list[torch.Tensor]:
    """Return the first images of the val split, as the detector of a run gets them."""
    categories, size = read_categories(run), recipe.detector.input_size
    split = open_val(recipe.data, data, categories, size, recipe.seed)
    return [split[i].image for i in range(min(count, len(split)))]


@torch.no_grad()
def time_sides(
    sides: Mapping[str, Detector], images: Sequence[torch.Tensor], rounds: int
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
