"""Random results and images of fixed seeds, for the timing of evaluation and reading."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from postnms.data.dataset import Category, Truth
from postnms.evaluation.results import Result
from postnms.structures import NMS_ROW, POST_NMS_ROW

CLASSES = 80
OBJECTS = 7
"""Objects of each image."""
DETECTIONS = 100
"""Detections of each image in each row."""
SPREADS = {NMS_ROW: 0.12, POST_NMS_ROW: 0.1}
"""How far the boxes of each row lie from their objects, as a share of their coordinates."""
HEIGHT, WIDTH = 480, 640
"""Size of every image in pixels."""


def random_rows(images: int) -> tuple[Truth, dict[str, list[Result]]]:
    """Return random annotations, and the results of two rows.

    Each detection lies around an object of its image, and one in five has the object's class.
    """
    random = np.random.default_rng(0)
    boxes = random.uniform(20, 200, (images, OBJECTS, 4)).round(2)
    labels = random.integers(CLASSES, size=(images, OBJECTS))
    categories = tuple(Category(label, f"class {label}") for label in range(CLASSES))
    image = np.arange(images).repeat(OBJECTS)
    columns = (image.tolist(), labels.ravel().tolist(), boxes.reshape(-1, 4).tolist())
    content = {
        "images": [_image(number) for number in range(images)],
        "categories": [{"id": each.id, "name": each.name} for each in categories],
        "annotations": [
            _annotation(number, *columns_of_one)
            for number, columns_of_one in enumerate(zip(*columns, strict=True))
        ],
    }
    rows = {name: _results(boxes, labels, spread, random) for name, spread in SPREADS.items()}
    return Truth(categories, content, "random boxes"), rows


def write_pictures(folder: Path, count: int) -> Path:
    """Write random JPEG files with annotations of one object each; return the annotation file."""
    # Large smooth areas compress as photographs do. Noise alone would be several times as large.
    coarse = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    for number in range(count):
        picture.rotate(number % 4 * 90).save(folder / f"{number}.jpg", quality=90)
    content = {
        "images": [_image(number) for number in range(count)],
        "categories": [{"id": 0, "name": "object"}],
        "annotations": [_annotation(i, i, 0, [10, 10, 100, 100]) for i in range(count)],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _results(
    boxes: NDArray[np.float64],
    labels: NDArray[np.int64],
    spread: float,
    random: np.random.Generator,
) -> list[Result]:
    """Return the detections around boxes (images, objects, 4) of these labels (images, objects)."""
    images = len(boxes)
    target = random.integers(OBJECTS, size=(images, DETECTIONS))
    near = np.take_along_axis(boxes, target[..., None], axis=1)
    noise = random.normal(1, spread, near.shape).clip(0.5, 2)
    own = np.take_along_axis(labels, target, axis=1)
    other = random.integers(CLASSES, size=own.shape)
    right = random.uniform(size=own.shape) < 0.2
    scores = np.where(right, random.beta(4, 2, own.shape), random.beta(1, 6, own.shape))
    columns = (
        np.arange(images).repeat(DETECTIONS),
        np.where(right, own, other).ravel(),
        (near * noise).round(2).reshape(-1, 4),
        scores.round(6).ravel(),
    )
    return [
        {"image_id": image, "category_id": label, "bbox": box, "score": score}
        for image, label, box, score in zip(*(part.tolist() for part in columns), strict=True)
    ]


def _image(number: int) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH}


def _annotation(number: int, image: int, label: int, box: list[float]) -> dict[str, Any]:
    """Return COCO's entry of an object, whose box is x, y, width, height in pixels."""
    return {
        "id": number,
        "image_id": image,
        "category_id": label,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
    }
