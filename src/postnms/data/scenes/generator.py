"""Crowded scenes: the built-in data set. Textured shapes in clumps of one class that hide much of each other.

Shapes are painted back to front. The truth is exact: a box is the extent of the pixels of which the object has
more than half, after everything in front of it; one that would hide too much of another is not placed.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from postnms.config import Config
from postnms.data.dataset import Category, CocoDataset, Record
from postnms.data.scenes.shapes import SHAPES, Shape, background, place
from postnms.errors import UserError
from postnms.files.atomic import atomic_path, write_json

SPLITS = ("train", "val")
DESCRIPTION = "postnms crowded scenes"
CATEGORIES = tuple(Category(label + 1, name) for label, name in enumerate(SHAPES))

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Radius = Annotated[float, Field(gt=0, lt=0.5)]


class ScenesConfig(Config):
    """How many scenes, how large, how crowded."""

    train: Count = 400
    val: Count = 100
    size: Annotated[int, Field(ge=32)] = 160
    """Side of the square images in pixels."""
    objects: tuple[Count, Count] = (8, 24)
    """Fewest and most objects that are tried."""
    radius: tuple[Radius, Radius] = (0.055, 0.13)
    """Smallest and largest radius as a share of the side."""
    crowding: Fraction = 0.75
    """Share of objects that stand in a clump of their class."""
    min_visible: Annotated[float, Field(gt=0, le=1)] = 0.35
    """Least share of its pixels that every object keeps."""

    @model_validator(mode="after")
    def _ordered(self) -> "ScenesConfig":
        for name in ("objects", "radius"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: expected the smaller value first, got {low} and {high}")
        return self


class _Canvas:
    """What is painted so far, and of each object how much of every pixel still shows."""

    def __init__(self, size: int, ground: NDArray[np.float32]) -> None:
        self.size, self.pixels = size, ground
        self.shapes: list[Shape] = []
        self.shown: list[NDArray[np.float32]] = []

    def try_paint(self, shape: Shape, min_visible: float) -> bool:
        """Paint in front of everything, unless that hides too much of an object or the shape is cut off itself."""
        area = (shape.cover > 0.5).sum()
        if area < 12:
            return False
        left_over = []
        for other, shown in zip(self.shapes, self.shown, strict=True):
            if not _overlap(shape, other):
                left_over.append(shown)
                continue
            full = np.zeros((self.size, self.size), np.float32)
            full[shape.rows, shape.columns] = shape.cover
            left_over.append(shown * (1 - full[other.rows, other.columns]))
            if (left_over[-1] > 0.5).sum() < min_visible * (other.cover > 0.5).sum():
                return False
        self.shapes.append(shape)
        self.shown = [*left_over, shape.cover]
        alpha = shape.cover[..., None]
        place_here = self.pixels[shape.rows, shape.columns]
        self.pixels[shape.rows, shape.columns] = place_here * (1 - alpha) + shape.colour * alpha
        return True

    def truth(self) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Boxes of the visible extents, labels, and visible areas in pixels."""
        boxes, areas = [], []
        for shape, shown in zip(self.shapes, self.shown, strict=True):
            rows, columns = np.nonzero(shown > 0.5)
            left, top = columns.min() + shape.columns.start, rows.min() + shape.rows.start
            right, bottom = (
                columns.max() + shape.columns.start + 1,
                rows.max() + shape.rows.start + 1,
            )
            boxes.append((left, top, right, bottom))
            areas.append(len(rows))
        labels = [shape.label for shape in self.shapes]
        return (
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int64),
            np.array(areas, np.int64),
        )


def generate_scene(
    config: ScenesConfig, seed: int, split: str, index: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """One scene, a pure function of its arguments: pixels (size, size, 3), boxes (m, 4), labels and areas (m,)."""
    random = np.random.default_rng((seed, SPLITS.index(split), index))
    canvas = _Canvas(config.size, background(config.size, random))
    wanted = int(random.integers(config.objects[0], config.objects[1] + 1))
    for label, centre, radius in _layout(config, wanted, random):
        canvas.try_paint(place(label, centre, radius, config.size, random), config.min_visible)
    grain = random.normal(0, 0.02, canvas.pixels.shape).astype(np.float32)
    pixels = ((canvas.pixels + grain).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return pixels, *canvas.truth()


def scenes_dataset(config: ScenesConfig, seed: int, split: str) -> CocoDataset:
    """A split of the scenes in memory, with the same face as one that was read."""
    records, images, annotations = [], [], []
    for index in range(getattr(config, split)):
        pixels, boxes, labels, areas = generate_scene(config, seed, split, index)
        crowd = np.zeros(len(labels), np.bool_)
        name = Path(f"{split}_{index:05d}.png")
        records.append(
            Record(index + 1, name, config.size, config.size, boxes, labels, crowd, pixels)
        )
        images.append(
            {"id": index + 1, "file_name": str(name), "height": config.size, "width": config.size}
        )
        annotations += _annotations(index + 1, len(annotations), boxes, labels, areas)
    categories = [{"id": c.id, "name": c.name} for c in CATEGORIES]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    return CocoDataset(CATEGORIES, tuple(records), truth, f"scenes {split}")


def write_scenes(
    config: ScenesConfig, seed: int, folder: Path, done: Callable[[int], None] = lambda images: None
) -> dict[str, int]:
    """Write both splits in COCO format; returns the objects of each. ``done`` is called after every image.

    Raises UserError if the folder holds annotations of something else.
    """
    for split in SPLITS:
        _refuse_foreign(folder / f"instances_{split}.json")
    counts = {}
    for split in SPLITS:
        dataset = scenes_dataset(config, seed, split)
        for record in dataset.records:
            with atomic_path(folder / "images" / record.path) as temporary:
                record.load().save(temporary, format="PNG")
            done(1)
        about = {"description": DESCRIPTION, "seed": seed, "config": config.model_dump(mode="json")}
        write_json(
            folder / f"instances_{split}.json", {"info": about, **dataset.truth}, indent=None
        )
        counts[split] = len(dataset.truth["annotations"])
    return counts


def _refuse_foreign(path: Path) -> None:
    try:
        ours = (
            not path.exists() or json.loads(path.read_text())["info"]["description"] == DESCRIPTION
        )
    except (ValueError, TypeError, LookupError):
        ours = False
    if not ours:
        raise UserError(f"{path}: holds annotations that are no crowded scenes; name another --out")


def _layout(
    config: ScenesConfig, wanted: int, random: np.random.Generator
) -> Iterator[tuple[int, tuple[float, float], float]]:
    """(label, centre, radius) of objects to try: lone ones, and clumps whose members stand close together."""
    left = wanted
    while left > 0:
        label = int(random.integers(len(SHAPES)))
        radius = config.size * random.uniform(*config.radius)
        x, y = random.uniform(radius, config.size - radius, 2)
        members = min(int(random.integers(2, 6)), left) if random.uniform() < config.crowding else 1
        for _ in range(members):
            yield label, (float(x), float(y)), radius * random.uniform(0.9, 1.1)
            angle, step = random.uniform(0, 2 * np.pi), radius * random.uniform(0.55, 1.0)
            x = np.clip(x + step * np.cos(angle), radius / 2, config.size - radius / 2)
            y = np.clip(y + step * np.sin(angle), radius / 2, config.size - radius / 2)
        left -= members


def _overlap(first: Shape, second: Shape) -> bool:
    return (
        first.rows.start < second.rows.stop
        and second.rows.start < first.rows.stop
        and first.columns.start < second.columns.stop
        and second.columns.start < first.columns.stop
    )


def _annotations(
    image_id: int,
    before: int,
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    areas: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """COCO annotations of an image, with ids from ``before + 1`` on."""
    rows = zip(boxes.tolist(), labels.tolist(), areas.tolist(), strict=True)
    return [
        {
            "id": before + number,
            "image_id": image_id,
            "category_id": CATEGORIES[label].id,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": area,
            "iscrowd": 0,
        }
        for number, ((x1, y1, x2, y2), label, area) in enumerate(rows, 1)
    ]
