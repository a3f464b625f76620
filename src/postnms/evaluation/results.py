"""Detections as COCO results, and the figures that are measured on them.

d: detections, B: images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from postnms.data.dataset import ImageId
from postnms.structures import Detections

Result = dict[str, Any]
"""``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``, in original pixels.

Ids are those of the user's annotations: ``image_id`` is an integer or a string.
"""

Figures = dict[str, float | None]
"""COCO's 12 figures by name, in per cent. None: undefined, such as APS without a small object."""

_NOT_ROWS = ("gains", "classes", "best_f1")
"""Names in ``metrics.json`` that are not those of rows."""


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one class, in per cent. None: the class has no object in the images."""

    name: str
    AP: float | None
    AP50: float | None


@dataclass(frozen=True)
class Gain:
    """AP of a row minus AP of plain NMS, in per cent, and its 95 % interval."""

    AP: float | None
    low: float | None = None
    """Lower bound, by a paired bootstrap over the images. None: no resamples were drawn."""
    high: float | None = None
    """Upper bound."""


@dataclass(frozen=True)
class BestF1:
    """The score threshold of a row with the best F1 at IoU 0.5, over all classes together."""

    score: float
    """Detections that score at least this are taken. It may be outside [0, 1], as scores may."""
    f1: float
    """F1 of these detections, in (0, 1]."""
    precision: float
    """Share of these detections that are right, in (0, 1]."""
    recall: float
    """Share of the objects that these detections find, in (0, 1]."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of every row of a detector, and the gains of the stage over plain NMS."""

    rows: Mapping[str, Figures]
    gains: Mapping[str, Gain] = field(default_factory=dict)
    """By row, for each row of the stage. It is empty without a stage."""
    classes: Mapping[str, Sequence[ClassFigures]] = field(default_factory=dict)
    """By row, the figures of each class in the order of the truth's categories."""
    best_f1: Mapping[str, BestF1 | None] = field(default_factory=dict)
    """By row, the score threshold with the best F1. None: no detection of the row is right."""

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``.

        It has the rows by name, then any ``gains``, ``classes`` and ``best_f1``. ``gains`` has
        ``AP``, ``low`` and ``high`` of each row but plain NMS. ``classes`` has a list for each row,
        with ``name``, ``AP`` and ``AP50`` of each class. ``best_f1`` has ``score``, ``f1``,
        ``precision`` and ``recall`` for each row, or null.
        """
        content: dict[str, Any] = dict(self.rows)
        if self.gains:
            content["gains"] = {row: asdict(gain) for row, gain in self.gains.items()}
        if self.classes:
            content["classes"] = {
                row: [asdict(figures) for figures in classes]
                for row, classes in self.classes.items()
            }
        if self.best_f1:
            content["best_f1"] = {
                row: None if best is None else asdict(best) for row, best in self.best_f1.items()
            }
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Evaluation":
        """Read the content of ``metrics.json``."""
        rows = {name: row for name, row in content.items() if name not in _NOT_ROWS}
        classes = {
            row: tuple(ClassFigures(**figures) for figures in of_row)
            for row, of_row in content.get("classes", {}).items()
        }
        best_f1 = {
            row: None if best is None else BestF1(**best)
            for row, best in content.get("best_f1", {}).items()
        }
        gains = {row: Gain(**gain) for row, gain in content.get("gains", {}).items()}
        return cls(rows, gains, classes, best_f1)


def to_results(
    detections: Detections,
    image_ids: Sequence[ImageId],
    to_original: Tensor,
    category_ids: Sequence[int],
) -> list[Result]:
    """Return the detections of a batch as COCO results, in their order.

    ``to_original`` (B, 2): factors of x and y from the pixels of the detections to the original
    pixels of each image. ``image_ids`` and ``category_ids`` are in the order of the images and of
    the labels.
    """
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
            as_result_boxes(detections, to_original).tolist(),
            as_result_scores(detections),
            strict=True,
        )
    ]


def as_result_scores(detections: Detections) -> list[float]:
    """Return the scores of results, (d,), with 9 digits."""
    # 9 digits tell any two float32 numbers apart. Fewer would make ties, and ties change AP.
    return [float(f"{score:.9g}") for score in detections.scores.tolist()]


def as_result_boxes(detections: Detections, to_original: Tensor) -> NDArray[np.float64]:
    """Return the boxes of results, (d, 4) as x, y, width, height in original pixels.

    They are rounded to 1/1000 pixel. ``to_original`` is that of :func:`to_results`.
    """
    factors = to_original.double().repeat(1, 2)[detections.image.cpu()]
    boxes = detections.boxes.cpu().double() * factors
    boxes[:, 2:] -= boxes[:, :2]
    return boxes.numpy().round(3)
