"""Where the time of a recipe goes: shares of functions of this library in one inference and in one training step.

python benchmarks/profile_recipe.py [--data FOLDER] [--recipe faster_rcnn_r18_small] [--rounds 10] [--least 0.02]

Random weights, one thread, after some steps of warming up; by Python's profiler, so that what runs inside of torch
counts for the function that called it. The way back is one line: autograd calls it from outside.
"""

import argparse
import cProfile
import pstats
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate.utils import set_seed

from postnms.data.splits import open_splits
from postnms.distributed.processes import get_accelerator
from postnms.recipes import get_recipe
from postnms.runs.loading import build_run_detector
from postnms.training.loop import training_batches
from postnms.training.optimizer import build_optimizer, set_learning_rate
from postnms.training.step import training_step

WARMUP = 10
WAY_BACK = "run_backward"


def print_shares(title: str, call: Callable[[], object], rounds: int, least: float) -> None:
    """Cumulative shares of this library's functions, and of the way back, that are over ``least``."""
    for _ in range(WARMUP):
        call()
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(rounds):
        call()
    profile.disable()
    found = pstats.Stats(profile)
    whole = found.total_tt  # pyright: ignore[reportAttributeAccessIssue]
    print(f"{title}: {1000 * whole / rounds:.0f} ms with the profiler on")
    shares = []
    for (file, _, name), (_, _, _, seconds, _) in found.stats.items():  # pyright: ignore[reportAttributeAccessIssue]
        part = file.rpartition("/postnms/")[2] if "/postnms/" in file else ""
        if (part or WAY_BACK in name) and seconds >= least * whole:
            shares.append((seconds / whole, part, name))
    for share, part, name in sorted(shares, reverse=True):
        print(f"  {100 * share:5.1f} %  {part} {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="data folder; without it, the recipe's built-in data"
    )
    parser.add_argument("--recipe", default="faster_rcnn_r18_small")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--least", type=float, default=0.02)
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe, accelerator = get_recipe(given.recipe), get_accelerator()
    splits = open_splits(recipe, given.data)
    set_seed(recipe.seed)
    detector = build_run_detector(recipe, len(splits.train.dataset.categories)).to(
        accelerator.device
    )
    batches, steps = (
        training_batches(recipe, splits.train, 0, accelerator),
        iter(range(recipe.training.iterations)),
    )
    optimizer = build_optimizer(detector.train(), recipe.training)

    def train() -> None:
        set_learning_rate(optimizer, next(steps), recipe.training)
        training_step(detector, optimizer, next(batches), recipe.training, accelerator)

    print_shares("a training step", train, given.rounds, given.least)
    detector.eval()
    image = next(batches).images[0]
    with torch.no_grad():
        print_shares("inference of an image", lambda: detector([image]), given.rounds, given.least)


if __name__ == "__main__":
    main()
