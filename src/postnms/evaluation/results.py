"""Detections as COCO results."""

from collections.abc import Sequence
from typing import Any

import torch

from postnms.structures import Detections

Results = dict[str, list[dict[str, Any]]]
"""COCO results of each row by its name."""


Metrics = dict[str, dict[str, float | None]]


Result = dict[str, Any]
"""``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``."""


def to_results(
    detections: Detections,
    image_ids: Sequence[int],
    scales: Sequence[tuple[float, float]],
    category_ids: Sequence[int],
) -> list[Result]:
    """Detections of a batch -> COCO results. ``scales``: of each image, (x, y) factors to its original pixels."""
    factors = (
        torch.tensor(scales, dtype=torch.float64).view(-1, 2).repeat(1, 2)[detections.image.cpu()]
    )
    boxes = detections.boxes.cpu().double() * factors
    boxes[:, 2:] -= boxes[:, :2]
    # 1/1000 px; scores with the 9 digits that tell any two float32 apart, since rounding would make ties.
    return [
        {
            "image_id": image_ids[image],
            "category_id": category_ids[label],
            "bbox": box,
            "score": score,
        }
        for image, label, box, score in zip(
            detections.image.tolist(),
            detections.labels.tolist(),
            boxes.numpy().round(3).tolist(),
            [float(f"{score:.9g}") for score in detections.scores.tolist()],
            strict=True,
        )
    ]
