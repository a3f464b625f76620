"""Detections of an image as plain values and as text, with the names of their classes.

d: detections.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postnms.data.ids import ImageId

COLUMNS = ("label", "name", "score", "x1", "y1", "x2", "y2")
"""The fields of a record of one detection, in their order."""


def records_of(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    labels: NDArray[np.int64],
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """Return a dict with the fields :data:`COLUMNS` for each detection, which JSON can hold.

    Args:
        boxes: (d, 4) xyxy, pixels. They are rounded to 1/1000 pixel.
        scores: (d,). They keep 9 digits, which tell any two float32 numbers apart.
        labels: (d,) 0..K-1.
        names: name of each class.
    """
    rows = zip(
        labels.tolist(),
        scores.tolist(),
        boxes.astype(np.float64).round(3).tolist(),
        strict=True,
    )
    return [
        dict(zip(COLUMNS, (label, names[label], float(f"{score:.9g}"), *box), strict=True))
        for label, score, box in rows
    ]


def coco_results_of(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    labels: NDArray[np.int64],
    image_id: ImageId,
    category_ids: Sequence[int],
) -> list[dict[str, Any]]:
    """Return COCO results: ``image_id``, ``category_id``, ``bbox`` (xywh), ``score``.

    The first arguments are those of :func:`records_of`. ``category_ids`` are those of the classes,
    in the order of the labels.
    """
    sides = boxes.astype(np.float64)
    sides[:, 2:] -= sides[:, :2]
    rows = zip(labels.tolist(), sides.round(3).tolist(), scores.tolist(), strict=True)
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": box,
            "score": float(f"{score:.9g}"),
        }
        for label, box, score in rows
    ]


def yolo_text(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating] | None,
    labels: NDArray[np.int64],
    image_size: tuple[int, int],
) -> str:
    """Return YOLO text, a line a detection: ``label cx cy width height score``.

    Centre, width and height are shares of the image, whose ``image_size`` is (height, width).
    ``scores`` None: the lines end before the score.
    """
    height, width = image_size
    shares = boxes.astype(np.float64) / [width, height, width, height]
    centres, sides = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
    lines = []
    for index, label in enumerate(labels.tolist()):
        numbers = [f"{value:.6f}" for value in (*centres[index], *sides[index])]
        score = [] if scores is None else [f"{float(scores[index]):.9g}"]
        lines.append(" ".join([str(label), *numbers, *score]) + "\n")
    return "".join(lines)
