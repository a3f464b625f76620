"""What a detector gives: losses, rows of detections, and the steps on the way to them.

B: images of the batch.
"""

from dataclasses import dataclass, field

from torch import Tensor

from postnms.detectors.torchvision.dicts import to_dicts
from postnms.rivals.attached import IOU_NET_ROW
from postnms.structures import (
    NMS_ROW,
    POST_NMS_ROW,
    SECOND_NMS_ROW,
    Candidates,
    Detections,
    suppressed_row,
)
from postnms.suppression.registry import SUPPRESSORS

ROW_TITLES = {
    NMS_ROW: "NMS",
    **{name: name for name in SUPPRESSORS if name != NMS_ROW},
    IOU_NET_ROW: "IoU-Net",
    POST_NMS_ROW: "post-NMS",
    SECOND_NMS_ROW: "post-NMS, second NMS",
    **{suppressed_row(name): f"post-NMS, {name}" for name in SUPPRESSORS},
}
"""Every row that a detector can give, and its title for people."""


@dataclass(frozen=True)
class Output:
    """The result of one forward pass."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    """Scalars that sum to the total loss. Empty without targets."""
    rows: dict[str, Detections] = field(default_factory=dict)
    """Detections by row, in pixels of the images as given: ``nms``, and with a stage ``post_nms``.
    With a second NMS there is ``post_nms_second_nms``, and with a suppressor on the moved boxes
    ``post_nms+`` and its name. Further suppressors and heads give rows of their own."""
    cut: Tensor | None = None
    """(B,) bool: NMS kept more boxes of the image than the network's ``max_detections``, and the
    rows have the best of them. None without detections."""
    dict_labels: tuple[int, ...] = ()
    """The label of each class in torchvision's dicts, see :attr:`Detector.dict_labels`."""

    def to_torchvision(self, row: str | None = None) -> list[dict[str, Tensor]]:
        """Return a row as torchvision's detectors give it: ``boxes, labels, scores`` of each image.

        Labels are numbered as in the targets, see :attr:`Detector.dict_labels`. ``row`` is the name
        of the row. None: the last one, which is that of the stage if there is a stage. Raises
        ValueError if the output does not have the row.
        """
        name = next(reversed(self.rows), None) if row is None else row
        if name not in self.rows:
            had = ", ".join(self.rows) or "no detections: with targets they need detect=True"
            raise ValueError(f"row: expected one of the output's, which has {had}; got {row!r}")
        return to_dicts(self.rows[name], self.dict_labels)


@dataclass(frozen=True)
class Trace:
    """The steps of one forward pass in evaluation mode, in pixels of the images as given."""

    candidates: Candidates
    """The boxes before suppression. With a stage they have the extra columns ``refined_boxes``,
    ``stage_objectness`` and ``cluster_objectness``, with heads ``iou`` and ``density``."""
    rows: dict[str, Detections]
    """As in :class:`Output`."""
    milliseconds: dict[str, float]
    """By row, the time of clustering and the stage together for the whole batch. Empty without a
    stage."""
