"""Detections as COCO results, and the figures that are measured on them.

d: detections, B: images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from postnms.data.dataset import ImageId
from postnms.structures import Detections

Result = dict[str, Any]
"""``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``, in original pixels.

Ids are those of the user's annotations: ``image_id`` is an integer or a string.
"""

Results = dict[str, list[Result]]
"""The results of each row of a detector, by the name of the row."""

Figures = dict[str, float | None]
"""COCO's 12 figures by name, in per cent. None: undefined, such as APS without a small object."""


@dataclass(frozen=True)
class Gain:
    """AP of the stage minus AP of plain NMS, in per cent, and its 95 % interval."""

    AP: float | None
    low: float | None = None
    """Lower bound, by a paired bootstrap over the images. None: no resamples were drawn."""
    high: float | None = None
    """Upper bound."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of every row of a detector, and the gain of the stage over plain NMS."""

    rows: Mapping[str, Figures]
    gain: Gain | None = None
    """None: the detector has no stage."""

    def to_json(self) -> dict[str, dict[str, float | None]]:
        """Return the content of ``metrics.json``: the rows by name, then any ``gain``."""
        gain = {} if self.gain is None else {"gain": asdict(self.gain)}
        return {**self.rows, **gain}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Evaluation":
        """Read the content of ``metrics.json``."""
        rows = {name: figures for name, figures in content.items() if name != "gain"}
        return cls(rows, Gain(**content["gain"]) if "gain" in content else None)


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
    factors = to_original.double().repeat(1, 2)[detections.image.cpu()]
    boxes = detections.boxes.cpu().double() * factors
    boxes[:, 2:] -= boxes[:, :2]
    # Boxes are rounded to 1/1000 pixel. Scores keep 9 digits, which tell any two float32 numbers
    # apart: fewer would make ties, and ties change AP.
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
