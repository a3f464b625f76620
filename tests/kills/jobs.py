"""Jobs that are killed again and again until they are done, beside the same jobs left alone.

A job runs in a forked child, which imports nothing anew, so a kill costs about a second.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image

from postnms.data.image_files import find_images
from postnms.files.atomic import LEFTOVERS
from postnms.files.tensor_files import load_tensors
from postnms.inference.image_files import predict_files
from postnms.inference.looking import Look
from postnms.runs.folder import RunFolder, read_categories, read_recipe
from postnms.runs.loading import load_detector
from postnms.training import train_splits
from tests.support.runs import splits_of, tiny

ENDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
"""Signals that end a prediction job, in turn."""


@dataclass
class Kills:
    """What happened to one job."""

    kills: int = 0
    """Number of times that it was ended before it was done."""
    while_writing: int = 0
    """How many of the kills met a file that was half written."""
    differences: list[str] = field(default_factory=list)
    """Files that differ from those of the job left alone, are missing or are too many."""


def kill_training(folder: Path, most: int, seed: int, iterations: int = 20) -> Kills:
    """Train in ``folder`` with up to ``most`` kills, and compare with a run without any."""
    lengths = (f"training.iterations={iterations}", "training.checkpoint_every=1")
    recipe = tiny(*lengths, f"seed={seed}")
    whole = RunFolder(folder / "whole")
    killed = RunFolder(folder / "killed")

    def work(run: RunFolder) -> None:
        resume = run.checkpoint.is_file() or run.older_checkpoint.is_file()
        train_splits(recipe, splits_of(recipe), run, resume=resume)

    in_child(lambda: work(whole))
    chance = random.Random(seed)
    kills = _kill_until_done(lambda: work(killed), killed.root, chance, most, (signal.SIGKILL,))
    kills.differences = _differences(whole.root, killed.root, ("weights.safetensors", "*.json"))
    return kills


def kill_prediction(run: Path, folder: Path, most: int, seed: int, images: int = 40) -> Kills:
    """Predict with up to ``most`` kills, and compare with a job without any."""
    inputs = folder / "in"
    inputs.mkdir(parents=True)
    for i in range(images):
        Image.radial_gradient("L").rotate(i).convert("RGB").save(inputs / f"{i:03d}.png")
    source = RunFolder(run)

    def work(out: Path) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        recipe = read_recipe(source)
        look = Look(recipe.detector.input_size)
        paths = find_images([inputs]).paths
        predict_files(load_detector(source, recipe), look, read_categories(source), paths, out)

    in_child(lambda: work(folder / "whole"))
    chance = random.Random(seed)
    out = folder / "killed"
    kills = _kill_until_done(lambda: work(out), out, chance, most, ENDS)
    kills.differences = _differences(folder / "whole", out, ("*.png", "*.json"))
    return kills


def _kill_until_done(
    work: Callable[[], None],
    folder: Path,
    chance: random.Random,
    most: int,
    ends: tuple[signal.Signals, ...],
) -> Kills:
    """Run a job until it is done, and end it up to ``most`` times at random moments.

    Every other time the moment is one at which a file is half written, if there is one.
    """
    kills = Kills()
    while True:
        child = _start(work)
        end = time.monotonic() + chance.uniform(0.05, 1.5)
        hunts = kills.kills % 2 == 1
        met = False
        while kills.kills < most and time.monotonic() < end:
            if hunts and (met := any(folder.glob(LEFTOVERS))):
                break
            time.sleep(0.0005)
        if kills.kills < most and os.waitpid(child, os.WNOHANG)[0] == 0:
            os.kill(child, ends[kills.kills % len(ends)])
            os.waitpid(child, 0)
            kills.kills += 1
            kills.while_writing += met or any(folder.glob(LEFTOVERS))
        elif kills.kills < most or _finish(child) == 0:
            return kills


def _start(work: Callable[[], None]) -> int:
    """Run a job in a forked child, and return the number of the child."""
    child = os.fork()
    if child:
        return child
    # The child must never return into the code of its parent.
    status = 1
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
            work()
        status = 0
    finally:
        os._exit(status)


def in_child(work: Callable[[], None]) -> None:
    """Run a job in a forked child to its end."""
    assert _finish(_start(work)) == 0


def _finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _differences(whole: Path, other: Path, patterns: tuple[str, ...]) -> list[str]:
    """Return the names of files that are in one folder alone, or that differ and should not."""
    names = [{path.relative_to(root) for path in root.rglob("*")} for root in (whole, other)]
    stray = {str(name) for name in names[0] ^ names[1] if "tensorboard" not in name.parts}
    same = {path.relative_to(whole) for pattern in patterns for path in whole.glob(pattern)}
    same -= {Path("provenance.json")}
    return sorted(
        stray | {str(name) for name in same & names[1] if not _equal(whole / name, other / name)}
    )


def _equal(first: Path, second: Path) -> bool:
    """Return whether two files have the same bytes, or the same tensors and facts.

    The order of the facts in a safetensors file is left to chance.
    """
    if first.suffix != ".safetensors":
        return first.read_bytes() == second.read_bytes()
    (tensors, about), (others, facts) = load_tensors(first), load_tensors(second)
    same = tensors.keys() == others.keys() and about == facts
    return same and all(torch.equal(tensors[name], others[name]) for name in tensors)
