"""Speed of what surrounds clustering: the stage, an evaluation, and reading.

Inputs are random, by fixed seeds. No network runs, so the times are those of this library. Where
the least time that a machine needs for such work is known, it is measured in turns with the work.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from postnms.clustering import cluster
from postnms.data.formats.coco import read_coco, read_truth
from postnms.data.loader import DetectionData, batches
from postnms.data.resizing import resize
from postnms.evaluation.metrics import evaluate_rows
from postnms.speed.made_data import DETECTIONS, random_rows, write_pictures
from postnms.speed.timing import BUDGET, Timing, measure, torch_threads
from postnms.stage import PostNMSStage, StageConfig
from postnms.structures import Candidates, Clusters, Level, Targets

STRIDES = (4, 8, 16, 32)
"""Strides of the pyramid levels in pixels."""
BATCH = 8
"""Number of images that are read for one forward pass."""
READ_SIZE = (320, 640)
"""Smallest and largest side in pixels to which images are resized."""
PRODUCT = 1024
"""Side of the square matrices whose product tells how fast a machine multiplies."""

Call = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    """How large the inputs are."""

    channels: int
    """Channels of the pyramid."""
    side: int
    """Side in pixels of the square image that the stage looks at."""
    candidates: int
    """Candidates of that image."""
    images: int
    """Images of the evaluation, with 100 detections each in both rows."""
    resamples: int
    """Resamples of the evaluation."""
    pictures: int
    """JPEG files of 640 x 480 pixels that are read."""


QUICK = Sizes(64, 256, 200, images=200, resamples=100, pictures=64)
WHOLE = Sizes(256, 1024, 500, images=5000, resamples=1000, pictures=512)


@dataclass(frozen=True)
class Limit:
    """What a machine has to do at least for a piece of work."""

    name: str
    """What it is, in a few words."""
    call: Call
    """Something that takes time in proportion to it."""
    share: float
    """How many such calls take as long as what has to be done."""


@dataclass(frozen=True)
class Piece:
    """A piece of work to be timed."""

    what: str
    size: str
    call: Call
    limit: Limit | None = None
    """None: it is not known."""


@dataclass(frozen=True)
class Work:
    """The time of one piece of work."""

    what: str
    """What is done."""
    size: str
    """How large the input is."""
    threads: int
    """Number of CPU threads. For images, the number of processes that read ahead if over 1."""
    timing: Timing
    limit: str | None
    """What the machine has to do at least. None: it is not known."""
    limit_milliseconds: float | None
    """How long that takes. None: it is not known."""

    @property
    def ratio(self) -> float | None:
        """Return the time over the least time, or None if that is not known."""
        least = self.limit_milliseconds
        return None if least is None else self.timing.milliseconds / least


def time_surroundings(
    sizes: Sizes, rounds: int, threads: int, budget: float = BUDGET
) -> list[Work]:
    """Time the stage, an evaluation and reading.

    Args:
        sizes: how large the inputs are.
        rounds: how often each call is timed.
        threads: number of CPU threads, at least 1. As many processes read images ahead, but with
            one thread the process that asks for the images reads them.
        budget: seconds after which a call is not repeated again.
    """
    with tempfile.TemporaryDirectory() as folder, torch_threads(threads):
        pieces = [
            *stage_pieces(sizes),
            *evaluation_pieces(sizes, Path(folder)),
            image_piece(sizes, Path(folder), threads),
        ]
        # Different work is not compared, so each piece takes turns with its own limit alone.
        return [_timed(piece, rounds, threads, budget) for piece in pieces]


def _timed(piece: Piece, rounds: int, threads: int, budget: float) -> Work:
    sides = {"work": piece.call}
    if piece.limit is not None:
        sides["limit"] = piece.limit.call
    times = measure(sides, rounds, 1, budget)
    name, least = None, None
    if piece.limit is not None:
        name, least = piece.limit.name, piece.limit.share * times["limit"].milliseconds
    return Work(piece.what, piece.size, threads, times["work"], name, least)


def stage_pieces(sizes: Sizes) -> list[Piece]:
    """Return the stage at inference, and its losses with all gradients, on random candidates.

    The limit are the multiply-adds of the networks at the speed of a product of large matrices.
    """
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    levels = {str(i): Level(sizes.channels, stride) for i, stride in enumerate(STRIDES)}
    stage = PostNMSStage(StageConfig(), levels, num_classes=1)
    features = {
        name: torch.randn(
            1, sizes.channels, sizes.side // level.stride, sizes.side // level.stride,
            generator=random,
        ).requires_grad_()
        for name, level in levels.items()
    }  # fmt: skip
    clusters, targets = random_clusters(sizes.candidates, sizes.side, random)
    learned = [*features.values(), *stage.parameters()]

    @torch.no_grad()
    def detect() -> None:
        stage.detect(features, [(sizes.side, sizes.side)], clusters, DETECTIONS)

    def train() -> None:
        for tensor in learned:
            tensor.grad = None
        losses = stage.losses(features, clusters, targets)
        torch.stack(list(losses.values())).sum().backward()

    size = f"{sizes.candidates} boxes, {sizes.channels} channels, {sizes.side} pixels"
    return [
        Piece("stage, detections", size, detect, _of_products(detect)),
        Piece("stage, losses and back", size, train, _of_products(train)),
    ]


def evaluation_pieces(sizes: Sizes, folder: Path) -> list[Piece]:
    """Return the reading of annotations, and an evaluation of two rows, once with resamples."""
    truth, rows = random_rows(sizes.images)
    path = folder / "truth.json"
    path.write_text(json.dumps(truth.content), encoding="utf-8")
    size = f"{sizes.images:,} images, 2 rows"
    return [
        Piece(
            "annotations", f"{len(truth.annotations):,} objects", lambda: read_truth(path).objects
        ),
        Piece("evaluation", size, lambda: evaluate_rows(truth, rows, bootstrap=0)),
        Piece(
            f"evaluation, {sizes.resamples:,} resamples",
            size,
            lambda: evaluate_rows(truth, rows, bootstrap=sizes.resamples),
        ),
    ]


def image_piece(sizes: Sizes, folder: Path, threads: int) -> Piece:
    """Return the reading and resizing of images in batches.

    The limit is Pillow's own decoding and resizing of the same files, shared by all processes.
    """
    annotations = write_pictures(folder, sizes.pictures)
    dataset = read_coco(annotations, folder)
    least, most = READ_SIZE
    data = DetectionData(dataset, least, most, workers=0 if threads == 1 else threads)

    def read() -> None:
        for _ in batches(data, range(len(data)), BATCH):
            pass

    def decode() -> None:
        for record in dataset.records:
            with Image.open(record.path) as image:
                resize(image, least, most)

    return Piece(
        "images", f"{len(data)} JPEG files", read, Limit("Pillow alone", decode, 1 / threads)
    )


def _of_products(call: Call) -> Limit:
    """Return the limit of a call that spends its time in products of matrices."""
    with FlopCounterMode(display=False) as counter:
        call()
    # The counter takes a multiply-add for two operations.
    share = counter.get_total_flops() / 2 / PRODUCT**3
    one, other = torch.randn(PRODUCT, PRODUCT), torch.randn(PRODUCT, PRODUCT)
    return Limit("matrix products", lambda: one @ other, share)


def random_clusters(count: int, side: int, random: torch.Generator) -> tuple[Clusters, Targets]:
    """Return ``count`` candidates of one image and one class with their clusters, and the truth.

    There is an object for every ten candidates, which lie around the objects as a detector finds
    them. ``side`` is that of the square image in pixels.
    """
    number = max(count // 10, 1)
    sides = torch.rand(number, 2, generator=random) * side / 4 + side / 32
    corner = torch.rand(number, 2, generator=random) * (side - sides)
    objects = torch.cat([corner, corner + sides], dim=1)
    target = torch.arange(count) % number
    moved = corner[target] + 0.1 * sides[target] * torch.randn(count, 2, generator=random)
    boxes = torch.cat([moved, moved + sides[target]], dim=1).clamp(min=0)
    zeros = torch.zeros(count, dtype=torch.int64)
    scores = torch.rand(count, generator=random)
    clusters = cluster(Candidates(boxes, scores, zeros, zeros, zeros, num_images=1))
    none = zeros[:number]
    return clusters, Targets(objects, none, none, none.bool(), num_images=1)
