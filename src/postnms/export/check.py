"""Whether an exported model finds what the detector finds.

d: detections.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from postnms.config import Progress, no_progress
from postnms.data.image_files import load_image
from postnms.export.onnx_model import ExportedModel, ExportedRow
from postnms.inference.whole_images import detect_images
from postnms.prediction import Model
from postnms.structures import Detections

MOST_PIXELS, MOST_SCORE = 0.05, 1e-4
"""Largest differences of a coordinate, in pixels of the image, and of a score."""


@dataclass(frozen=True)
class Parity:
    """How a row of an exported model differs from that of the detector, over some images."""

    row: str
    images: int
    detections: int
    """Of the detector."""
    exported: int
    """Of the exported model."""
    unequal: tuple[str, ...]
    """Names of the images in which the numbers of detections, or of those of a class, differ, or a
    box or a score of the exported model is not finite."""
    pixels: float
    """Largest difference of a coordinate."""
    score: float
    """Largest difference of a score."""

    @property
    def holds(self) -> bool:
        """Whether all differences are within the limits."""
        return not self.unequal and self.pixels <= MOST_PIXELS and self.score <= MOST_SCORE

    def __str__(self) -> str:
        verdict = "equal" if self.holds else "DIFFERENT"
        where = f"; other detections in {', '.join(self.unequal[:3])}" if self.unequal else ""
        return (
            f"{self.row}: {verdict}: {self.exported} of {self.detections} detections in "
            f"{self.images} images, boxes within {self.pixels:.4f} px, scores within "
            f"{self.score:.1e}{where}"
        )


def compare(
    model: Model, exported: ExportedModel, paths: Iterable[Path], done: Progress = no_progress
) -> list[Parity]:
    """Run a model and its exported form on image files and compare the rows of both.

    ``done`` is called with 1 after each image. Raises UserError if an image cannot be read.
    """
    rows = exported.rows
    found: dict[str, list[tuple[str, int, int, float, float]]] = {row: [] for row in rows}
    for path in paths:
        image = load_image(path)
        [eager] = detect_images(model.detector, [image], model.input_size)
        other = exported.predict(image)
        for row in rows:
            found[row].append((path.name, *differences(eager[row], other[row])))
        done(1)
    return [_parity(row, parts) for row, parts in found.items()]


def differences(eager: Detections, other: ExportedRow) -> tuple[int, int, float, float]:
    """Return both numbers of detections, and the largest difference of coordinates and scores.

    Each detection is compared with the one of its class that is most like it, since nearly equal
    scores may change places. The differences are infinite if a class has other numbers, or if a
    number of the exported model is not finite.
    """
    counts = len(eager.scores), len(other.scores)
    labels = eager.labels.numpy()
    is_finite = np.isfinite(other.boxes).all() and np.isfinite(other.scores).all()
    if not is_finite or sorted(labels.tolist()) != sorted(other.labels.tolist()):
        return *counts, np.inf, np.inf
    pixels = score = 0.0
    for mine, its in _pairs(eager, other):
        pixels = max(pixels, float(np.abs(eager.boxes.numpy()[mine] - other.boxes[its]).max()))
        score = max(score, float(abs(eager.scores.numpy()[mine] - other.scores[its])))
    return *counts, pixels, score


def _pairs(eager: Detections, other: ExportedRow) -> Iterator[tuple[int, int]]:
    """Yield the row of each detection and that of the free one of its class most like it."""
    boxes, scores, labels = eager.boxes.numpy(), eager.scores.numpy(), eager.labels.numpy()
    free = np.ones(len(other.scores), bool)
    for row in range(len(scores)):
        distance = _distance(boxes[row], scores[row], other)
        distance[~free | (other.labels != labels[row])] = np.inf
        best = int(distance.argmin())
        free[best] = False
        yield row, best


def _distance(box: NDArray[np.float32], score: float, other: ExportedRow) -> NDArray[np.float64]:
    """Return how far each detection is from a box with a score, in units of the limits: (d,)."""
    boxes = np.abs(other.boxes - box).max(axis=1).astype(np.float64) / MOST_PIXELS
    return np.maximum(boxes, np.abs(other.scores - score) / MOST_SCORE)


def _parity(row: str, parts: Sequence[tuple[str, int, int, float, float]]) -> Parity:
    return Parity(
        row,
        images=len(parts),
        detections=sum(part[1] for part in parts),
        exported=sum(part[2] for part in parts),
        unequal=tuple(part[0] for part in parts if part[3] == np.inf),
        pixels=max((part[3] for part in parts if part[3] < np.inf), default=0.0),
        score=max((part[4] for part in parts if part[4] < np.inf), default=0.0),
    )
