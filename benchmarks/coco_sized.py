"""Random truth, results and candidates of the size of COCO val2017, by seed.

Objects of an image come from a few classes, a few classes have most of the objects, sides of boxes
span small, medium and large ones, and one annotation in a hundred is a crowd region. Boxes of
results and candidates lie around objects, with scores that follow how near they are, or anywhere.

m: objects and crowd regions, d: boxes, B: images, K: classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from postnms.data.columns import Entries, ImageColumns, ObjectColumns
from postnms.data.dataset import Category, Truth
from postnms.data.ids import Ids, Texts
from postnms.evaluation.columns import ResultColumns
from postnms.structures import Candidates

SIDE = 640
"""Side in pixels of the square images."""
CLASSES_OF_AN_IMAGE = 3
CROWD_SHARE = 0.01
NEAR_SHARE = 0.6
"""Share of the boxes of results and candidates that lie around an object."""
SAME_CLASS_SHARE = 0.85
DICTS_AT_ONCE = 10_000
IMAGES_AT_ONCE = 50
"""Number of images whose candidates are written together."""


@dataclass(frozen=True)
class Scenes:
    """Objects of all images, by image."""

    truth: Truth
    image: NDArray[np.int64]
    """(m,) 0..B-1 in rising order."""
    label: NDArray[np.int64]
    """(m,) 0..K-1."""
    boxes: NDArray[np.float64]
    """(m, 4) x, y, width, height, in pixels."""

    def as_lists(self) -> dict[str, Any]:
        """Return COCO's dict of the truth with new lists of dicts, as other libraries take it."""
        return {name: [dict(entry) for entry in of] for name, of in self.truth.content.items()}


@dataclass(frozen=True)
class Boxes:
    """Boxes as a detector finds them, by image."""

    image: NDArray[np.int64]
    """(d,) 0..B-1 in rising order."""
    label: NDArray[np.int64]
    """(d,) 0..K-1."""
    boxes: NDArray[np.float64]
    """(d, 4) x, y, width, height, in pixels."""
    scores: NDArray[np.float32]
    """(d,) in [0, 1]."""


def make_scenes(images: int, objects: int, classes: int, seed: int) -> Scenes:
    """Return the truth of ``images`` images with ``objects`` objects in all."""
    random = np.random.default_rng(seed)
    weight = random.gamma(1.0, size=images)
    image = np.sort(random.choice(images, objects, p=weight / weight.sum()))
    frequency = 1 / np.arange(1, classes + 1)
    palette = random.choice(classes, (images, CLASSES_OF_AN_IMAGE), p=frequency / frequency.sum())
    label = palette[image, random.integers(CLASSES_OF_AN_IMAGE, size=objects)]
    sides = np.exp(random.normal(4.0, 1.0, (objects, 1)) + random.normal(0, 0.3, (objects, 2)))
    sides = sides.clip(3, 500)
    corner = random.uniform(0, 1, (objects, 2)) * (SIDE - sides)
    boxes = np.concatenate([corner, sides], axis=1).round(2)
    crowd = random.uniform(size=objects) < CROWD_SHARE
    area = boxes[:, 2] * boxes[:, 3] * random.uniform(0.5, 1, objects)
    ids = Ids.of(range(1, images + 1))
    names = Texts.of(f"{i}.jpg" for i in range(images))
    columns = ObjectColumns(
        ids,
        tuple(range(1, classes + 1)),
        image.astype(np.int32),
        label.astype(np.int32),
        boxes,
        area,
        crowd,
        Ids.of(range(1, objects + 1)),
    )
    categories = tuple(Category(k + 1, f"class {k}") for k in range(classes))
    content = {
        "images": Entries(ImageColumns(ids, names, np.full((images, 2), SIDE, np.int32))),
        "categories": [vars(category) for category in categories],
        "annotations": Entries(columns),
    }
    return Scenes(Truth(categories, content, "random truth"), image, label, boxes)


def make_boxes(scenes: Scenes, each: int, spread: float, seed: int) -> Boxes:
    """Return ``each`` boxes an image.

    ``spread`` is the standard deviation of a box around its object, as a share of its sides.
    """
    random = np.random.default_rng(seed)
    images, classes = len(scenes.truth.images), len(scenes.truth.categories)
    image = np.repeat(np.arange(images), each)
    starts = np.searchsorted(scenes.image, np.arange(images + 1))
    count = np.diff(starts)[image]
    near = (random.uniform(size=len(image)) < NEAR_SHARE) & (count > 0)
    # An image without objects has no near box, so any object may stand in for its one.
    target = starts[image] + (random.uniform(size=len(image)) * count).astype(np.int64)
    target = target.clip(max=len(scenes.image) - 1)
    sides = scenes.boxes[target, 2:]
    noise = random.normal(0, spread, (len(image), 4)) * random.gamma(1.0, size=(len(image), 1))
    around = scenes.boxes[target] + noise * np.tile(sides, 2)
    anywhere = np.exp(random.normal(4.0, 1.0, (len(image), 4))).clip(3, 500)
    anywhere[:, :2] = random.uniform(0, SIDE, (len(image), 2))
    boxes = np.where(near[:, None], around, anywhere)
    boxes[:, 2:] = boxes[:, 2:].clip(1, SIDE)
    frequency = 1 / np.arange(1, classes + 1)
    other = random.choice(classes, len(image), p=frequency / frequency.sum())
    same = near & (random.uniform(size=len(image)) < SAME_CLASS_SHARE)
    label = np.where(same, scenes.label[target], other)
    logit = random.normal(-3, 1.2, len(image)) + np.where(same, 3 - 8 * abs(noise).mean(1), 0)
    scores = (1 / (1 + np.exp(-logit))).astype(np.float32)
    return Boxes(image, label, boxes.round(3), scores)


def save_boxes(path: Path, boxes: Boxes) -> None:
    """Write boxes to a file that :func:`load_boxes` reads."""
    np.savez(path, **vars(boxes))


def load_boxes(path: Path) -> Boxes:
    with np.load(path) as columns:
        return Boxes(**columns)


def as_columns(boxes: Boxes, scenes: Scenes) -> ResultColumns:
    """Return boxes as the columns of the results that :func:`as_dicts` returns."""
    scores = np.array([float(f"{score:.9g}") for score in boxes.scores], np.float64)
    image_ids = range(1, len(scenes.truth.images) + 1)
    category_ids = range(1, len(scenes.truth.categories) + 1)
    return ResultColumns(image_ids, category_ids, boxes.image, boxes.label, boxes.boxes, scores)


def as_dicts(boxes: Boxes) -> list[dict[str, Any]]:
    """Return boxes as COCO results, with the image and category ids of :func:`make_scenes`."""
    # All results of an image and a class share its id, as those of a detector do.
    image_ids = list(range(1, int(boxes.image.max(initial=0)) + 2))
    category_ids = list(range(1, int(boxes.label.max(initial=0)) + 2))
    results = []
    # A part at a time, so that memory does not also hold the numbers of all of them as lists.
    for start in range(0, len(boxes.image), DICTS_AT_ONCE):
        rows = slice(start, start + DICTS_AT_ONCE)
        columns = (boxes.image[rows], boxes.label[rows], boxes.boxes[rows], boxes.scores[rows])
        results += [
            {
                "image_id": image_ids[i],
                "category_id": category_ids[k],
                "bbox": box,
                "score": float(f"{score:.9g}"),
            }
            for i, k, box, score in zip(*(column.tolist() for column in columns), strict=True)
        ]
    return results


def write_candidates(path: Path, scenes: Scenes, each: int, spread: float, seed: int) -> None:
    """Write a file of ``each`` candidates an image, with the extra columns that suppressors use."""
    # An evaluation does without the import, which would count as its memory.
    from postnms.candidate_files.writer import CandidateWriter

    found = make_boxes(scenes, each, spread, seed)
    images = len(scenes.truth.images)
    generator = torch.Generator().manual_seed(seed)
    with CandidateWriter(path, scenes.truth.categories, None, {}) as writer:
        for start in range(0, images, IMAGES_AT_ONCE):
            count = min(IMAGES_AT_ONCE, images - start)
            rows = slice(start * each, (start + count) * each)
            boxes = torch.from_numpy(found.boxes[rows]).float()
            boxes[:, 2:] += boxes[:, :2]
            scores = torch.from_numpy(found.scores[rows])
            total = count * each
            extra = {
                "density": torch.rand(total, generator=generator),
                "iou": torch.rand(total, generator=generator),
                "edge_log_variance": torch.randn(total, 4, generator=generator) - 3,
            }
            candidates = Candidates(
                boxes,
                scores,
                torch.from_numpy(found.label[rows]),
                torch.arange(count).repeat_interleave(each),
                torch.arange(each).repeat(count),
                count,
                extra=extra,
            )
            writer.add(candidates, range(start + 1, start + count + 1))
