"""How a detector looks at images: each as a whole or in tiles, and what stays of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from postnms.config import Progress, as_python, no_progress
from postnms.data.resizing import InputSize
from postnms.detectors import Detector
from postnms.errors import UserError, shown
from postnms.inference.tiles import NO_LIMIT, Tiling, detect_tiled
from postnms.inference.whole_images import Rows, detect_images
from postnms.structures import Candidates, Detections, take
from postnms.suppression.greedy import GreedyNMS


@dataclass(frozen=True)
class Look:
    """How a detector looks at images."""

    size: InputSize | None
    """How images, or their tiles, are resized for the detector. None: it gets them as they are."""
    tiling: Tiling | None = None
    """How larger images are cut into tiles. None: not at all."""
    class_agnostic: float | None = None
    """IoU in [0, 1] from which on two boxes are one object, whatever their classes: of two that
    overlap by more, only the one with the better score stays. None: all stay."""

    def __post_init__(self) -> None:
        value = as_python(self.class_agnostic)
        object.__setattr__(self, "class_agnostic", value)
        if value is None:
            return
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= 1:
            raise UserError(
                f"expected an IoU from 0 to 1, got {shown(value)}", argument="class_agnostic"
            )


def look_at(
    detector: Detector,
    images: Sequence[Image.Image],
    look: Look,
    batch_size: int = 8,
    cut: Progress = no_progress,
) -> list[Rows]:
    """Detect objects in some images.

    Args:
        detector: in evaluation mode. Its parameters decide the device.
        images: RGB images.
        look: how it looks at them.
        batch_size: largest number of tiles in one forward pass.
        cut: called with the number of images, or of tiles, of which NMS kept more boxes than the
            detector's limit, once for each forward pass.

    Returns:
        For each image its rows, in pixels of the image and on the CPU.

    Raises:
        UserError: the suppressor of the tiles needs a column that the detector does not give.
    """
    size, tiling = look.size, look.tiling
    if tiling is None:
        found = detect_images(detector, images, size, cut)
    else:
        found = [detect_tiled(detector, image, size, tiling, batch_size, cut) for image in images]
    if look.class_agnostic is None:
        return found
    threshold = float(look.class_agnostic)
    return [
        {name: best_of_any_class(row, threshold) for name, row in rows.items()} for rows in found
    ]


def best_of_any_class(found: Detections, iou_threshold: float) -> Detections:
    """Return the detections of one image without those that a better one of any class overlaps.

    By falling score, a detection is left out if an earlier one that stays overlaps it by an IoU of
    more than the threshold. The others do not change.

    Example:
        >>> import torch
        >>> from postnms.inference.looking import best_of_any_class
        >>> from postnms.structures import Detections
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 0, 60, 10]])
        >>> zeros, rows = torch.zeros(3, dtype=torch.int64), torch.arange(3)
        >>> scores = torch.tensor([0.8, 0.7, 0.6])
        >>> found = Detections(boxes, scores, rows, zeros, rows, num_images=1)
        >>> best_of_any_class(found, 0.7).labels.tolist()
        [0, 2]
    """
    rows = torch.arange(len(found.scores))
    suppress = GreedyNMS(
        iou_threshold=iou_threshold,
        class_agnostic=True,
        score_threshold=None,
        max_detections=NO_LIMIT,
    )
    kept = suppress(Candidates(found.boxes, found.scores, found.labels, rows * 0, rows, 1)).source
    return take(found, kept)
