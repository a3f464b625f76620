"""Profile a recipe: the time that functions of this library take in inference and in training.

    python benchmarks/profile_recipe.py [--data FOLDER] [--recipe NAME] [--rounds 10] [--least 0.02]

The weights are random. There is one thread, and the first steps are not counted. The profiler is
Python's, so the time inside torch belongs to the function that called it. The backward pass is one
line, since autograd calls it from outside this library.
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
from postnms.training.loop import batches_per_epoch, training_batches
from postnms.training.optimizer import build_optimizer, set_learning_rate
from postnms.training.schedule import schedule_of
from postnms.training.step import training_step

WARMUP = 10
"""Number of calls before the first one that is profiled."""
BACKWARD = "run_backward"
"""Part of the name of torch's function for the backward pass."""


def print_shares(title: str, call: Callable[[], object], rounds: int, least: float) -> None:
    """Print the share of the time of each function of this library, and of the backward pass.

    A share includes the functions that are called inside. Shares below ``least`` are left out.
    """
    for _ in range(WARMUP):
        call()
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(rounds):
        call()
    profile.disable()
    stats = pstats.Stats(profile)
    whole = stats.total_tt  # pyright: ignore[reportAttributeAccessIssue]
    print(f"{title}: {1000 * whole / rounds:.0f} ms with the profiler on")
    shares = []
    entries = stats.stats  # pyright: ignore[reportAttributeAccessIssue]
    for (file, _, name), (_, _, _, seconds, _) in entries.items():
        module = file.rpartition("/postnms/")[2] if "/postnms/" in file else ""
        if (module or BACKWARD in name) and seconds >= least * whole:
            shares.append((seconds / whole, module, name))
    for share, module, name in sorted(shares, reverse=True):
        print(f"  {100 * share:5.1f} %  {module} {name}")


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
    recipe = get_recipe(given.recipe)
    accelerator = get_accelerator()
    splits = open_splits(recipe.data, given.data, recipe.detector.input_size, recipe.seed)
    set_seed(recipe.seed)
    detector = build_run_detector(recipe, len(splits.train.dataset.categories)).to(
        accelerator.device
    )
    schedule = schedule_of(
        recipe.training, batches_per_epoch(splits.train, recipe.training.batch_size)
    )
    batches = training_batches(recipe, splits.train, schedule.iterations, 0, accelerator)
    steps = iter(range(schedule.iterations))
    optimizer = build_optimizer(detector.train(), recipe.training)

    def train() -> None:
        set_learning_rate(optimizer, schedule.learning_rate(next(steps)))
        training_step(detector, optimizer, next(batches), recipe.training, accelerator)

    print_shares("a training step", train, given.rounds, given.least)
    detector.eval()
    image = next(batches).images[0]
    with torch.no_grad():
        print_shares("inference of an image", lambda: detector([image]), given.rounds, given.least)


if __name__ == "__main__":
    main()
