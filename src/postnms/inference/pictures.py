"""Pictures of an image with its truth and its results side by side."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from postnms.data.dataset import Category
from postnms.data.loader import DetectionData
from postnms.data.transforms import resize
from postnms.detectors import Detector
from postnms.drawing.boxes import draw_boxes, side_by_side
from postnms.evaluation.results import Result, to_results
from postnms.files.atomic import atomic_path
from postnms.recipes import Recipe

TITLES = {"nms": "NMS", "post_nms": "post-NMS", "post_nms_second_nms": "post-NMS, second NMS"}


DRAWN_SCORE = 0.3
"""Least score that is drawn unless told otherwise."""


def draw_split(
    detector: Detector, data: DetectionData, recipe: Recipe, folder: Path, most: int
) -> list[Path]:
    """Truth and every row side by side for the first images of a split; returns the pictures."""
    categories, written = data.dataset.categories, []
    names = [category.name for category in categories]
    for record in data.dataset.records[:most]:
        image = record.load()
        rows = detect_image(detector, image, recipe, record.id, categories)
        panels = [draw_boxes(image, record.boxes.tolist(), record.labels.tolist(), names)]
        panels += [draw_results(image, found, categories, DRAWN_SCORE) for found in rows.values()]
        written.append(folder / f"{Path(record.path).stem}.png")
        _save(side_by_side(panels, ["truth", *(TITLES[row] for row in rows)]), written[-1])
    return written


@torch.no_grad()
def detect_image(
    detector: Detector,
    image: Image.Image,
    recipe: Recipe,
    image_id: int,
    categories: Sequence[Category],
) -> dict[str, list[Result]]:
    """COCO results of every row for one RGB image, in its own pixels."""
    small = resize(image, recipe.detector.min_size, recipe.detector.max_size)
    device = next(detector.parameters()).device
    rows = detector([pil_to_tensor(small).to(device)]).rows
    scale = (image.width / small.width, image.height / small.height)
    ids = [category.id for category in categories]
    return {
        name: to_results(detections, [image_id], [scale], ids) for name, detections in rows.items()
    }


def draw_results(
    image: Image.Image, results: Sequence[Result], categories: Sequence[Category], min_score: float
) -> Image.Image:
    """COCO results of one image, drawn on it."""
    labels = {category.id: label for label, category in enumerate(categories)}
    boxes = [(x, y, x + w, y + h) for x, y, w, h in (result["bbox"] for result in results)]
    return draw_boxes(
        image,
        boxes,
        [labels[result["category_id"]] for result in results],
        [category.name for category in categories],
        [result["score"] for result in results],
        min_score,
    )


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
