"""Settings of the heads that say something of every candidate."""

from typing import Annotated

from pydantic import Field

from postnms.config import Config, Fraction, Positive

IOU_GUIDED_ROW = "iou_guided_nms"
"""Name of the result of IoU-guided NMS."""
IOU_NET_ROW = "iou_net"
"""Name of the result of IoU-guided NMS whose boxes are then moved to a higher predicted IoU."""
ADAPTIVE_ROW = "adaptive_nms"
"""Name of the result of Adaptive-NMS."""


class IoUHeadConfig(Config):
    """Settings of IoU-Net's head, which predicts the IoU of a box with its object.

    Source: arXiv 1807.11590. The settings of the refinement are those of the paper, with the sign
    of ``refine_drop`` turned. The weight of the loss is that of the open implementation
    OpenMMLab-IoUNet.
    """

    width: Positive = 1024
    """Outputs of each of the two fully connected layers."""
    loss_weight: Annotated[float, Field(ge=0)] = 5.0
    """Weight of the loss, at least 0."""
    refine_steps: Annotated[int, Field(ge=0)] = 5
    """Largest number of gradient steps T that move a box to a higher predicted IoU. 0: no box is
    moved, and there is no row ``iou_net``."""
    refine_rate: Annotated[float, Field(gt=0)] = 0.5
    """Length of a step, above 0: lambda in algorithm 2 of the paper."""
    refine_tolerance: Fraction = 0.001
    """A box stops when a step changes its predicted IoU by less than this: Omega_1."""
    refine_drop: Fraction = 0.01
    """A box stops when a step lowers its predicted IoU by more than this: -Omega_2."""

    @classmethod
    def training_only(cls) -> frozenset[str]:
        """Return the names of the fields that training alone reads."""
        return frozenset({"loss_weight"})


class DensityHeadConfig(Config):
    """Settings of the head that predicts how crowded the place of an object is.

    Source: Adaptive-NMS, arXiv 1904.03629. The density of an object is the largest IoU of its true
    box with that of another object of the same class.
    """

    width: Positive = 1024
    """Outputs of each of the two fully connected layers."""
    loss_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the loss, at least 0."""

    @classmethod
    def training_only(cls) -> frozenset[str]:
        """Return the names of the fields that training alone reads."""
        return frozenset({"loss_weight"})


class HeadsConfig(Config):
    """Which heads look at every candidate, and what they are trained on.

    They are trained on true boxes that are moved at random (IoU-Net, section 3.1), so they work
    with any detector that has a feature pyramid.
    """

    iou: IoUHeadConfig | None = None
    """Predicted IoU: the column ``iou``, the row ``iou_guided_nms``, and ``iou_net``, whose boxes
    are also moved. None: no such head."""
    density: DensityHeadConfig | None = None
    """Predicted density: the column ``density`` and the row ``adaptive_nms``. None: no such
    head."""
    samples: Positive = 512
    """Largest number of moved boxes of each image that the heads are trained on."""
    draws: Positive = 4
    """Number of boxes that are drawn for each box that may be used. A drawn box counts if its IoU
    with its object is at least 0.5, and low and high IoUs come equally often."""

    @classmethod
    def training_only(cls) -> frozenset[str]:
        """Return the names of the fields that training alone reads."""
        return frozenset({"samples", "draws"})

    @property
    def is_empty(self) -> bool:
        """Whether there is no head."""
        return self.iou is None and self.density is None

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the rows that the heads give, in their order."""
        names = (
            IOU_GUIDED_ROW if self.iou is not None else None,
            IOU_NET_ROW if self.iou is not None and self.iou.refine_steps else None,
            ADAPTIVE_ROW if self.density is not None else None,
        )
        return tuple(filter(None, names))
