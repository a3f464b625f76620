"""Time the stage of a run beside its detector alone.

    python benchmarks/stage_cost.py RUN [--data FOLDER] [--images 24] [--rounds 7] [--out FILE]

RUN is a trained run with a stage, for example of

    postnms train finetune --data FOLDER --out RUN

The sides share the detector of the run, and take turns on the same val images in one process, one
image at a time on one thread. Each of them runs plain NMS; ``post_nms`` also runs the stage on what
NMS kept, and the last side everything that the run has, such as Soft-NMS on the boxes of the stage.
Times are those of the processor, so that other programs do not count.
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
    if recipe.stage is None:
        parser.error(f"{arguments.run}: expected a run with a stage, got one without")
    changes: dict[str, dict[str, Any]] = {"nms": {"stage": None}, "post_nms": {}}
    if recipe.stage.suppressor is not None:
        changes["post_nms"] = {"stage.suppressor": None}
        changes[f"post_nms+{recipe.stage.suppressor}"] = {}
    sides = {name: build_side(recipe, run, change) for name, change in changes.items()}
    images = val_images(recipe, run, arguments.data, arguments.images)
    candidates = statistics.mean(len(candidates_of(sides["nms"], [image])) for image in images)
    times = time_sides(sides, images, arguments.rounds)
    ratios = {name: value / times["nms"] for name, value in times.items()}
    for name, ratio in ratios.items():
        print(f"{name:26} {times[name]:7.2f} ms  {ratio:.3f}")
    print(f"{len(images)} images, {candidates:.0f} candidates in an image")
    if arguments.out is not None:
        figures = {"milliseconds": times, "ratios": ratios, "candidates": candidates}
        origin = provenance(recipe.seed, arguments.data, command_line())
        write_json(arguments.out, {**origin, "run": run.root.name, **figures})


if __name__ == "__main__":
    main()
