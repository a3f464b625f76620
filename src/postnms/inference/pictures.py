"""Pictures of an image: its truth and the rows of a detector side by side."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from postnms.config import Progress, no_progress
from postnms.data.loader import DetectionData
from postnms.data.transforms import InputSize, resize
from postnms.detectors import Detector
from postnms.detectors.detector import ROW_TITLES
from postnms.drawing.boxes import draw_boxes, save_picture, side_by_side
from postnms.structures import Detections

DRAWN_SCORE = 0.3
"""Detections that score less are not drawn unless told otherwise."""


def draw_split(detector: Detector, data: DetectionData, folder: Path, most: int) -> list[Path]:
    """Draw the truth and every row for the first ``most`` images of a split.

    Returns the paths of the pictures.
    """
    names = [category.name for category in data.dataset.categories]
    size = (data.min_size, data.max_size)
    written = []
    for record in data.dataset.records[:most]:
        image = record.load()
        rows, to_original = detect_image(detector, image, size)
        panels = [draw_boxes(image, record.boxes.tolist(), record.labels.tolist(), names)]
        panels += [
            draw_detections(image, row, to_original, names, DRAWN_SCORE) for row in rows.values()
        ]
        titles = ["truth", *(ROW_TITLES[row] for row in rows)]
        written.append(folder / f"{Path(record.path).stem}.png")
        save_picture(side_by_side(panels, titles), written[-1])
    return written


@torch.no_grad()
def detect_image(
    detector: Detector, image: Image.Image, size: InputSize, cut: Progress = no_progress
) -> tuple[dict[str, Detections], Tensor]:
    """Detect objects in one RGB image.

    ``cut`` is called with 1 if NMS kept more boxes than the detector's limit, else with 0.

    Returns:
        The rows of the detector, in pixels of the image as it was resized for the network.
        The factors of x and y that lead back to the pixels of ``image``: (1, 2) float64.
    """
    small = resize(image, *size)
    device = next(detector.parameters()).device
    output = detector([pil_to_tensor(small).to(device)])
    cut(0 if output.cut is None else int(output.cut.sum()))
    factors = (image.width / small.width, image.height / small.height)
    return output.rows, torch.tensor([factors], dtype=torch.float64)


def draw_detections(
    image: Image.Image,
    detections: Detections,
    to_original: Tensor,
    names: Sequence[str],
    min_score: float,
) -> Image.Image:
    """Draw the detections of one image on it.

    ``to_original`` (1, 2) leads from their pixels to those of the image. ``names`` are those of
    the classes, in the order of the labels.
    """
    boxes = detections.boxes.cpu().double() * to_original.repeat(1, 2)
    return draw_boxes(
        image,
        boxes.tolist(),
        detections.labels.tolist(),
        names,
        detections.scores.tolist(),
        min_score,
    )
