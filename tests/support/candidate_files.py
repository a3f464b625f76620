"""Random files of candidates, what was written to them, and changes that break them."""

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from postnms.candidate_files.writer import CandidateWriter
from postnms.data.dataset import Category
from postnms.structures import Candidates, Detections, take

CATEGORIES = (Category(3, "y"), Category(17, "é"), Category(90, "z"))
BATCHES = [[2, 0, 1], [0], [], [0, 4, 0]]
"""The number of candidates of every image, batch by batch."""
NAMES = ("boxes", "scores", "labels", "source")


def columns(counts, seed):
    """Return random columns of images with the given numbers of rows."""
    generator = torch.Generator().manual_seed(seed)
    rows = sum(counts)
    corners = torch.randint(0, 50, (rows, 2), generator=generator).float()
    return {
        "boxes": torch.cat([corners, corners + torch.rand(rows, 2, generator=generator)], 1),
        "scores": torch.rand(rows, generator=generator),
        "labels": torch.randint(0, 3, (rows,), generator=generator),
        "image": torch.repeat_interleave(
            torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64)
        ),
        "source": torch.randint(0, 2**31 - 1, (rows,), generator=generator),
        "num_images": len(counts),
    }


def candidates(counts=(2, 1), seed=0, **changes):
    """Return random candidates with two extra columns, or with other columns on request."""
    extra = {"iou": torch.rand(sum(counts)), "edges": torch.rand(sum(counts), 4)}
    return Candidates(**(columns(counts, seed) | {"extra": extra} | changes))


def detections(counts=(1, 1), seed=0):
    """Return random detections."""
    return Detections(**columns(counts, seed))


def writer(path, **changes):
    """Return a writer with usual arguments, or with others on request."""
    arguments = {
        "categories": CATEGORIES,
        "annotations": "val.json",
        "provenance": {"commit": "abc", "seed": 3},
    }
    return CandidateWriter(path, **(arguments | changes))


def write(path, batches=BATCHES):
    """Write random candidates and two rows; return all that was written as one, and the rows."""
    written, rows, first = [], [], 0
    with writer(path) as file:
        for seed, counts in enumerate(batches):
            batch, row = (
                candidates(counts, seed),
                detections([min(count, 1) for count in counts], seed + 100),
            )
            ids = [1000 - number for number in range(first, first + len(counts))]
            batch = take(
                batch,
                torch.randperm(len(batch.scores), generator=torch.Generator().manual_seed(seed)),
            )
            file.add(
                batch,
                ids,
                {"post_nms": row, "nms": row},
                {"nms": 2.0 * len(counts), "post_nms": 1.0},
            )
            written.append((take(batch, torch.argsort(batch.image, stable=True)), first))
            rows.append((row, first))
            first += len(counts)
    return whole(written, first), whole(rows, first)


def whole(parts, num_images):
    """Join structures, each of the images from a first one on, to one structure."""
    kind = type(parts[0][0])
    joined = {name: torch.cat([getattr(part, name) for part, _ in parts]) for name in NAMES}
    joined["image"] = torch.cat([part.image + first for part, first in parts])
    if kind is Candidates:
        joined["extra"] = {
            name: torch.cat([part.extra[name] for part, _ in parts]) for name in parts[0][0].extra
        }
    return kind(**joined, num_images=num_images)


def assert_equal(mine, wanted):
    """Assert that two structures are equal to the last bit."""
    assert mine.num_images == wanted.num_images
    for name in (*NAMES, "image"):
        assert torch.equal(getattr(mine, name), getattr(wanted, name)), name
    if isinstance(wanted, Candidates):
        assert mine.extra.keys() == wanted.extra.keys()
        assert all(torch.equal(mine.extra[name], wanted.extra[name]) for name in wanted.extra)


def change(path, name, change, **metadata):
    """Write a file again with one tensor changed, or without it if ``change`` gives None."""
    with safe_open(path, framework="pt") as file:
        about = file.metadata() | metadata
    tensors = {key: tensor.clone() for key, tensor in load_file(path).items()}
    changed = change(tensors.pop(name, None))
    save_file(tensors if changed is None else tensors | {name: changed}, path, about)
