"""Greedy NMS replayed over a file as large as COCO val2017's candidates: seconds with reading, and peak memory.

    python benchmarks/replay.py [--images 5000] [--candidates 1000] [--classes 80] [--suppressor nms]

The file is made first (random boxes, about ten an object), in a folder that is removed at the end; what is measured
runs in a process of its own, kernels not yet compiled or cached ones loaded, as a user would meet them.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.replays import replay
from postnms.candidate_files.writer import CandidateWriter
from postnms.data.dataset import Category
from postnms.structures import Candidates
from postnms.suppression import get_suppressor

IMAGES_AT_ONCE = 50
SIDE = 640


def crowded(images: int, candidates: int, classes: int, random: torch.Generator) -> Candidates:
    """Images of ``candidates`` boxes each, about ten of them around each object."""
    objects = images * max(candidates // 10, 1)
    image = torch.arange(objects) // max(candidates // 10, 1)
    centre = torch.rand(objects, 2, generator=random) * SIDE
    side = 20 + torch.rand(objects, 2, generator=random) * 150
    label = torch.randint(classes, (objects,), generator=random)
    which = torch.arange(images * candidates) % objects
    middle = centre[which] + torch.randn(len(which), 2, generator=random) * 6
    half = side[which] * (1 + 0.1 * torch.randn(len(which), 2, generator=random).clamp(-2, 2)) / 2
    boxes = torch.cat([middle - half, middle + half], dim=1)
    scores = torch.rand(len(which), generator=random)
    return Candidates(boxes, scores, label[which], image[which], which // images, images)


def write(path: Path, images: int, candidates: int, classes: int) -> float:
    """Write the file; returns the seconds that it took."""
    random = torch.Generator().manual_seed(0)
    begin = time.perf_counter()
    with CandidateWriter(
        path, [Category(i + 1, f"class {i}") for i in range(classes)], None, {}
    ) as writer:
        for start in range(0, images, IMAGES_AT_ONCE):
            count = min(IMAGES_AT_ONCE, images - start)
            writer.add(crowded(count, candidates, classes, random), range(start, start + count))
    return time.perf_counter() - begin


def measure(path: Path, name: str) -> None:
    """Replay in this process and print what it took."""
    begin = time.perf_counter()
    file = open_candidates(path)
    found = replay(file, get_suppressor(name))
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    count = f"{len(file)} images, {file.num_candidates} candidates, {len(found.detections.scores)} detections"
    print(
        f"{name}: {count}: {seconds:.2f} s, {found.milliseconds:.3f} ms an image in the suppressor, peak {peak:.2f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--suppressor", default="nms")
    parser.add_argument(
        "--file", type=Path, help="Replay this file of candidates; the other sizes are not used."
    )
    given = parser.parse_args()
    if given.file is not None:
        measure(given.file, given.suppressor)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "candidates.safetensors"
        seconds = write(file, given.images, given.candidates, given.classes)
        print(f"written in {seconds:.1f} s, {file.stat().st_size / 2**20:.0f} MiB")
        subprocess.run(
            [sys.executable, __file__, "--file", file, "--suppressor", given.suppressor], check=True
        )


if __name__ == "__main__":
    main()
