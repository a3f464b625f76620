"""Crowded scenes, the built-in data set: textured shapes in clumps of one class.

The shapes of a clump hide much of each other. Shapes are painted from back to front. A shape that
would hide too much of another one is not painted.

The annotations are exact. A pixel belongs to an object if the object shows on more than half of
it, after everything in front is painted. The box is the extent of these pixels, and the area is
their number.

m: objects of a scene.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from postnms.config import Config, Fraction, Progress, no_progress
from postnms.data.dataset import Category, Dataset, Record, Truth
from postnms.data.scenes.shapes import SHAPES, Shape, background, place
from postnms.errors import UserError
from postnms.files.atomic import atomic_path, write_json
from postnms.files.json_files import read_json

SPLITS = ("train", "val")
"""Names of the splits. The position of a split is a part of the seed of its scenes."""
DESCRIPTION = "postnms crowded scenes"
"""Description in the annotation files, by which :func:`write_scenes` recognises its files."""
CATEGORIES = tuple(Category(label + 1, name) for label, name in enumerate(SHAPES))
"""The classes, in the order of the labels. The id of a class is its label plus 1."""

Count = Annotated[int, Field(ge=0)]
"""A whole number that is at least 0."""
Radius = Annotated[float, Field(gt=0, lt=0.5)]
"""A radius as a fraction of the side of the image, in (0, 0.5)."""


class ScenesConfig(Config):
    """The number of scenes, their size, and how crowded they are."""

    train: Count = 400
    """Number of scenes of the training split, at least 0."""
    val: Count = 100
    """Number of scenes of the validation split, at least 0."""
    size: Annotated[int, Field(ge=32)] = 160
    """Side of the square images in pixels, at least 32."""
    objects: tuple[Count, Count] = (8, 24)
    """Smallest and largest number of objects that a scene tries to paint, each at least 0.

    The number is drawn uniformly from this range, both ends included. A scene has fewer objects
    where one would hide too much of another or would show on fewer than 12 pixels.
    """
    radius: tuple[Radius, Radius] = (0.055, 0.13)
    """Smallest and largest radius of an object, as fractions of ``size``, each in (0, 0.5).

    A radius is drawn uniformly from this range for each clump and each lone object. Every object
    then differs from it by up to 10 per cent.
    """
    crowding: Fraction = 0.75
    """Probability, in [0, 1], that the next objects are a clump of 2 to 5 of one class.

    Otherwise the next object stands alone. The last clump of a scene may be cut short.
    """
    min_visible: Annotated[float, Field(gt=0, le=1)] = 0.35
    """Smallest fraction of its pixels that every object keeps visible, in (0, 1]."""

    @model_validator(mode="after")
    def _ordered(self) -> "ScenesConfig":
        """Raise ValueError unless every range has its smaller value first."""
        for name in ("objects", "radius"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: expected the smaller value first, got {low} and {high}")
        return self


class _Canvas:
    """A scene in the making: the pixels, and how much of each object is still visible.

    ``shown[i]`` (h, w) is the fraction of each pixel, in [0, 1], on which ``shapes[i]`` shows. It
    has the size of the patch that the shape covers.
    """

    def __init__(self, size: int, ground: NDArray[np.float32]) -> None:
        self.size = size
        self.pixels = ground
        self.shapes: list[Shape] = []
        self.shown: list[NDArray[np.float32]] = []

    def try_paint(self, shape: Shape, min_visible: float) -> bool:
        """Paint a shape in front of everything, and return whether it was painted.

        It is not painted if another object would keep less than the fraction ``min_visible`` of
        its pixels, or if the shape itself covers fewer than 12 pixels of the image.
        """
        area = (shape.cover > 0.5).sum()
        if area < 12:
            return False
        still_shown = []
        for other, shown in zip(self.shapes, self.shown, strict=True):
            if not _overlap(shape, other):
                still_shown.append(shown)
                continue
            # The two patches differ in position, so the new cover goes by way of a full image.
            full = np.zeros((self.size, self.size), np.float32)
            full[shape.rows, shape.columns] = shape.cover
            still_shown.append(shown * (1 - full[other.rows, other.columns]))
            if (still_shown[-1] > 0.5).sum() < min_visible * (other.cover > 0.5).sum():
                return False
        self.shapes.append(shape)
        self.shown = [*still_shown, shape.cover]
        alpha = shape.cover[..., None]
        behind = self.pixels[shape.rows, shape.columns]
        self.pixels[shape.rows, shape.columns] = behind * (1 - alpha) + shape.colour * alpha
        return True

    def truth(self) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Return boxes (m, 4) xyxy, labels (m,) and areas (m,) of the visible pixels."""
        boxes = []
        areas = []
        for shape, shown in zip(self.shapes, self.shown, strict=True):
            rows, columns = np.nonzero(shown > 0.5)
            left = columns.min() + shape.columns.start
            top = rows.min() + shape.rows.start
            right = columns.max() + shape.columns.start + 1
            bottom = rows.max() + shape.rows.start + 1
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
    """Return one scene, which depends on the arguments alone.

    Args:
        config: the settings of the scenes.
        seed: an integer that is at least 0.
        split: one of :data:`SPLITS`.
        index: number of the scene in its split.

    Returns:
        The image (size, size, 3) uint8 RGB, the boxes (m, 4) float32 xyxy in pixels, the labels
        (m,) int64, and the visible areas (m,) int64 in pixels. The order is from back to front.
    """
    random = np.random.default_rng((seed, SPLITS.index(split), index))
    canvas = _Canvas(config.size, background(config.size, random))
    count = int(random.integers(config.objects[0], config.objects[1] + 1))
    for label, centre, radius in _layout(config, count, random):
        canvas.try_paint(place(label, centre, radius, config.size, random), config.min_visible)
    grain = random.normal(0, 0.02, canvas.pixels.shape).astype(np.float32)
    pixels = ((canvas.pixels + grain).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return pixels, *canvas.truth()


def scenes_dataset(config: ScenesConfig, seed: int, split: str) -> Dataset:
    """Generate a split of the scenes in memory.

    The result has the same type as a split that is read from files. Image ids count from 1. The
    arguments are those of :func:`generate_scene`.

    Example:
        >>> dataset = scenes_dataset(ScenesConfig(val=2, size=96), seed=0, split="val")
        >>> [record.path.name for record in dataset.records]
        ['val_00000.png', 'val_00001.png']
        >>> [category.name for category in dataset.categories]
        ['disc', 'ring', 'square', 'triangle', 'star']
    """
    records = []
    images = []
    annotations = []
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
    content = {"images": images, "annotations": annotations, "categories": categories}
    return Dataset(Truth(CATEGORIES, content, f"scenes {split}"), tuple(records))


def write_scenes(
    config: ScenesConfig, seed: int, folder: Path, done: Progress = no_progress
) -> dict[str, int]:
    """Write both splits to a folder in COCO format.

    The files are ``instances_train.json``, ``instances_val.json`` and PNG images in ``images/``.
    Files of an earlier call are overwritten. ``config`` and ``seed`` are those of
    :func:`generate_scene`.

    Args:
        folder: the target folder.
        done: called with 1 after every image.

    Returns:
        The number of objects of each split, by the name of the split.

    Raises:
        UserError: the folder holds annotations of another data set under these names.
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
            folder / f"instances_{split}.json",
            {"info": about, **dataset.truth.content},
            indent=None,
        )
        counts[split] = len(dataset.truth.annotations)
    return counts


def _refuse_foreign(path: Path) -> None:
    """Raise UserError if an annotation file exists that :func:`write_scenes` did not write."""
    try:
        ours = not path.exists() or read_json(path)["info"]["description"] == DESCRIPTION
    except (UserError, TypeError, LookupError):
        ours = False
    if not ours:
        raise UserError(
            f"{path}: holds annotations that are no crowded scenes; name another folder"
        )


def _layout(
    config: ScenesConfig, count: int, random: np.random.Generator
) -> Iterator[tuple[int, tuple[float, float], float]]:
    """Yield label, centre (x, y) and radius, in pixels, of ``count`` objects, lone or in clumps."""
    remaining = count
    while remaining > 0:
        label = int(random.integers(len(SHAPES)))
        radius = config.size * random.uniform(*config.radius)
        x, y = random.uniform(radius, config.size - radius, 2)
        crowded = random.uniform() < config.crowding
        members = min(int(random.integers(2, 6)), remaining) if crowded else 1
        for _ in range(members):
            yield label, (float(x), float(y)), radius * random.uniform(0.9, 1.1)
            # A step of at most one radius makes each member overlap the one before it.
            angle = random.uniform(0, 2 * np.pi)
            step = radius * random.uniform(0.55, 1.0)
            x = np.clip(x + step * np.cos(angle), radius / 2, config.size - radius / 2)
            y = np.clip(y + step * np.sin(angle), radius / 2, config.size - radius / 2)
        remaining -= members


def _overlap(first: Shape, second: Shape) -> bool:
    """Return whether the patches of two shapes share a pixel."""
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
    """Return the COCO annotations of an image, with ids from ``before + 1`` on."""
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
