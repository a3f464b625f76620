"""What a model finds in one image, and the forms that other tools take it in.

d: detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from postnms.data.dataset import ImageId
from postnms.data.image_files import load_image
from postnms.data.image_objects import ImageObject, to_image
from postnms.drawing.boxes import draw_boxes
from postnms.inference.pictures import DRAWN_SCORE
from postnms.inference.records import COLUMNS, coco_results_of, records_of, yolo_text

if TYPE_CHECKING:
    import pandas
    import supervision  # pyright: ignore[reportMissingImports]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The detections of one image, by falling score."""

    boxes: NDArray[np.float32]
    """(d, 4) xyxy, in pixels of the image as it was given."""
    scores: NDArray[np.float32]
    """(d,) in [0, 1]."""
    labels: NDArray[np.int64]
    """(d,) 0..K-1: positions in the classes of the model."""
    names: list[str]
    """(d,) names of the classes."""
    image_size: tuple[int, int]
    """(height, width) in pixels. Of a file it is the size after its EXIF rotation."""
    path: Path | None
    """The image file. None: the image was given in memory."""
    row: str
    """The row of the detector that this is, such as ``post_nms``."""
    category_ids: Sequence[int] = field(repr=False)
    """Ids of the model's classes in COCO's annotations, in the order of the labels."""
    class_names: Sequence[str] = field(repr=False)
    """Names of the model's classes, in the order of the labels."""
    source: ImageObject | None = field(default=None, repr=False)
    """The image as it was given in memory, for :meth:`draw`. It is not a copy."""

    def __len__(self) -> int:
        return len(self.scores)

    def to_records(self) -> list[dict[str, Any]]:
        """Return a dict for each detection: ``label, name, score, x1, y1, x2, y2``.

        The values are plain numbers and strings, which JSON can hold.
        """
        return records_of(self.boxes, self.scores, self.labels, self.class_names)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a table with the columns of :meth:`to_records`, one detection a row.

        Raises ImportError without the package pandas.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas needs the package pandas: pip install pandas") from error
        return pandas.DataFrame(self.to_records(), columns=list(COLUMNS))

    def to_coco(self, image_id: ImageId) -> list[dict[str, Any]]:
        """Return COCO results: ``image_id``, ``category_id``, ``bbox`` (xywh), ``score``.

        ``image_id`` is the id of the image in the annotations. Boxes are rounded to 1/1000 pixel.
        """
        return coco_results_of(self.boxes, self.scores, self.labels, image_id, self.category_ids)

    def to_torchvision(self, labels_from: int = 0) -> dict[str, Tensor]:
        """Return the dict of torchvision's detectors: ``boxes``, ``labels``, ``scores``.

        ``labels_from`` is the label of the first class: 1 where label 0 is the background.
        """
        return {
            "boxes": torch.from_numpy(self.boxes.copy()),
            "labels": torch.from_numpy(self.labels + labels_from),
            "scores": torch.from_numpy(self.scores.copy()),
        }

    def to_supervision(self) -> "supervision.Detections":
        """Return ``supervision.Detections``; the names are in ``data["class_name"]``.

        Raises ImportError without the package supervision.
        """
        try:
            import supervision  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError(
                "to_supervision needs the package supervision: pip install supervision"
            ) from error
        return supervision.Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=self.labels.copy(),
            data={"class_name": np.array(self.names, dtype=np.str_)},
        )

    def to_yolo(self, *, scores: bool = True) -> str:
        """Return YOLO text, a line a detection: ``label cx cy width height score``.

        Coordinates are shares of the width and the height of the image. ``scores=False`` leaves the
        score out, as in files of annotations.
        """
        return yolo_text(self.boxes, self.scores if scores else None, self.labels, self.image_size)

    def draw(self, min_score: float = DRAWN_SCORE) -> Image.Image:
        """Return a picture of the image with the boxes on it. Small images are enlarged.

        Detections that score less than ``min_score`` are not drawn. An image file is read again. An
        image in memory is drawn as it is at this time.

        Raises:
            UserError: the image file cannot be read any more.
        """
        if self.path is not None:
            image = load_image(self.path, max_pixels=self.image_size[0] * self.image_size[1])
        else:
            image = to_image(self.source, "image")
        return draw_boxes(
            image,
            self.boxes.tolist(),
            self.labels.tolist(),
            self.class_names,
            self.scores.tolist(),
            min_score,
        )
