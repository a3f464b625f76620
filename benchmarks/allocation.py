"""Time training steps and forward passes with and without memory that is kept when it is freed.

    python benchmarks/allocation.py --data FOLDER [--recipe finetune] [--rounds 3] [--steps 10]

The command line keeps such memory (``postnms.cli.memory``). Processes with and without it take
turns, since one process cannot go back to the settings that it began with. It prints medians over
the rounds of the processor's time of one step, of which that of the operating system is named, and
the peak of memory.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from accelerate.utils import set_seed

from postnms.cli.console import command_line
from postnms.cli.memory import keep_freed_memory
from postnms.data.splits import open_splits
from postnms.distributed.processes import get_accelerator
from postnms.files.atomic import write_json
from postnms.recipes import get_recipe
from postnms.runs.loading import build_run_detector
from postnms.runs.provenance import provenance
from postnms.training.loop import batches_per_epoch, training_batches
from postnms.training.optimizer import build_optimizer, set_learning_rate
from postnms.training.schedule import schedule_of
from postnms.training.step import training_step

SIDES = {"given_back": False, "kept": True}
WARMUP = 3
"""Steps before the first that counts."""

Figures = dict[str, float]


def spent() -> tuple[float, float]:
    """Return the seconds of the processor in this process: its own, and the system's for it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime


def time_side(recipe_name: str, folder: Path | None, steps: int) -> Figures:
    """Return the seconds of a training step and of a forward pass in this process."""
    recipe = get_recipe(recipe_name)
    set_seed(recipe.seed)
    data = open_splits(recipe.data, folder, recipe.detector.input_size, recipe.seed).train
    detector = build_run_detector(recipe, len(data.dataset.categories)).train()
    optimizer = build_optimizer(detector, recipe.training)
    schedule = schedule_of(recipe.training, batches_per_epoch(data, recipe.training.batch_size))
    accelerator = get_accelerator()
    batches = list(training_batches(recipe, data, WARMUP + steps, 0, accelerator))
    figures: Figures = {}

    def count(name: str, begin: tuple[float, float]) -> None:
        own, system = (end - start for end, start in zip(spent(), begin, strict=True))
        figures[name] = (own + system) / steps
        figures[f"{name}_system"] = system / steps

    begin = spent()
    for number, batch in enumerate(batches):
        begin = spent() if number == WARMUP else begin
        set_learning_rate(optimizer, schedule.learning_rate(number))
        training_step(detector, optimizer, batch, recipe.training, accelerator)
    count("training_step", begin)
    detector.eval()
    with torch.no_grad():
        for number, batch in enumerate(batches):
            begin = spent() if number == WARMUP else begin
            detector(batch.images)
    count("forward_pass", begin)
    figures["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return figures


def compare(words: list[str], rounds: int) -> dict[str, Figures]:
    """Return the median figures of both sides, which take turns in processes of their own."""
    found: dict[str, list[Figures]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            command = [sys.executable, __file__, *words, "--side", side]
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[side].append(json.loads(shown.splitlines()[-1]))
    return {
        side: {name: statistics.median(one[name] for one in runs) for name in runs[0]}
        for side, runs in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="data folder; default: the built-in scenes")
    parser.add_argument("--recipe", default="finetune")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side")
    parser.add_argument("--steps", type=int, default=10, help="steps of a process that count")
    parser.add_argument("--side", choices=SIDES, help="time this side alone, in this process")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()

    if given.side is not None:
        if SIDES[given.side] and not keep_freed_memory():
            sys.exit("this C library has no such settings, or the environment has made them")
        print(json.dumps(time_side(given.recipe, given.data, given.steps)))
        return
    words = ["--recipe", given.recipe, "--steps", str(given.steps)]
    words += [] if given.data is None else ["--data", str(given.data)]
    medians = compare(words, given.rounds)
    for side, figures in medians.items():
        print(f"{side}: peak {figures['peak_gib']:.2f} GiB")
        for name in ("training_step", "forward_pass"):
            ratio = figures[name] / medians["given_back"][name]
            system = figures[f"{name}_system"]
            print(f"  {name} {figures[name]:.3f} s, {system:.3f} of the system; ratio {ratio:.2f}")
    if given.out:
        write_json(given.out, {**provenance(0, given.data, command_line()), **medians})


if __name__ == "__main__":
    main()
