"""Replay greedy NMS on a file as large as the candidates of COCO val2017.

    python benchmarks/replay.py [--images 5000] [--candidates 1000] [--suppressor nms]

It prints the seconds, reading included, and the peak memory. First it writes the file, with random
boxes, about ten of them for an object, and ``--classes`` classes. The folder of the file is removed
at the end. The replay runs in a new process, so that it compiles its kernels or loads them from the
cache, as it does for a user.
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
"""Number of images that are written together."""
SIDE = 640
"""Side in pixels of the square images in which the objects have their centres."""


def crowded(images: int, candidates: int, classes: int, random: torch.Generator) -> Candidates:
    """Return images with ``candidates`` boxes each, about ten of them around each object."""
    objects = images * max(candidates // 10, 1)
    image = torch.arange(objects) // max(candidates // 10, 1)
    centre = torch.rand(objects, 2, generator=random) * SIDE
    side = 20 + torch.rand(objects, 2, generator=random) * 150
    label = torch.randint(classes, (objects,), generator=random)
    count = images * candidates
    object_of_box = torch.arange(count) % objects
    middle = centre[object_of_box] + torch.randn(count, 2, generator=random) * 6
    stretch = 1 + 0.1 * torch.randn(count, 2, generator=random).clamp(-2, 2)
    half = side[object_of_box] * stretch / 2
    boxes = torch.cat([middle - half, middle + half], dim=1)
    scores = torch.rand(count, generator=random)
    labels = label[object_of_box]
    return Candidates(boxes, scores, labels, image[object_of_box], object_of_box // images, images)


def write(path: Path, images: int, candidates: int, classes: int) -> float:
    """Write the file, and return the seconds that this took."""
    random = torch.Generator().manual_seed(0)
    begin = time.perf_counter()
    categories = [Category(i + 1, f"class {i}") for i in range(classes)]
    with CandidateWriter(path, categories, None, {}) as writer:
        for start in range(0, images, IMAGES_AT_ONCE):
            count = min(IMAGES_AT_ONCE, images - start)
            writer.add(crowded(count, candidates, classes, random), range(start, start + count))
    return time.perf_counter() - begin


def measure(path: Path, name: str) -> None:
    """Replay a suppressor in this process, and print its time and the peak memory."""
    begin = time.perf_counter()
    file = open_candidates(path)
    replayed = replay(file, get_suppressor(name))
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    detections = len(replayed.detections.scores)
    print(
        f"{name}: {len(file)} images, {file.num_candidates} candidates, {detections} detections: "
        f"{seconds:.2f} s, {replayed.milliseconds:.3f} ms an image in the suppressor, "
        f"peak {peak:.2f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--suppressor", default="nms")
    parser.add_argument(
        "--file", type=Path, help="replay this file of candidates instead of a random one"
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
