"""Pictures of an image: its truth and the rows of a detector side by side."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from postnms.data.loader import DetectionData
from postnms.detectors import Detector
from postnms.detectors.output import ROW_TITLES
from postnms.drawing.boxes import draw_boxes, save_picture, side_by_side
from postnms.inference.whole_images import detect_images
from postnms.structures import Clusters, Detections

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
        rows = detect_images(detector, [image], size)[0]
        panels = [draw_boxes(image, record.boxes.tolist(), record.labels.tolist(), names)]
        panels += [draw_detections(image, row, names, DRAWN_SCORE) for row in rows.values()]
        titles = ["truth", *(ROW_TITLES[row] for row in rows)]
        written.append(folder / f"{record.path.stem}.png")
        save_picture(side_by_side(panels, titles), written[-1])
    return written


def draw_detections(
    image: Image.Image,
    detections: Detections,
    names: Sequence[str],
    min_score: float,
    clusters: Clusters | None = None,
) -> Image.Image:
    """Draw the detections of one image on it.

    ``names`` are those of the classes, in the order of the labels. ``clusters`` are those of the
    image: the members of clusters whose key scores at least ``min_score`` are drawn thin.
    """
    suppressed = []
    if clusters is not None:
        candidates, keys = clusters.candidates, clusters.keys
        chosen = candidates.scores[keys[clusters.assignment]] >= min_score
        chosen[keys] = False
        suppressed = candidates.boxes[chosen].tolist()
    return draw_boxes(
        image,
        detections.boxes.tolist(),
        detections.labels.tolist(),
        names,
        detections.scores.tolist(),
        min_score,
        suppressed,
    )
