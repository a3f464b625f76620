"""From settings to a detector."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from postnms.detectors.config import DetectorConfig
from postnms.detectors.detector import Detector, attach
from postnms.detectors.network import Network
from postnms.detectors.networks.cascade_rcnn import CascadeRCNNConfig, build_cascade_rcnn
from postnms.detectors.networks.faster_rcnn import FasterRCNNConfig, build_faster_rcnn
from postnms.detectors.networks.retinanet import RetinaNetConfig, build_retinanet
from postnms.detectors.torchvision.build import TorchvisionConfig, build_torchvision
from postnms.stage import StageConfig

NETWORKS: dict[type[DetectorConfig], Callable[[Any, int], Network]] = {
    FasterRCNNConfig: build_faster_rcnn,
    RetinaNetConfig: build_retinanet,
    CascadeRCNNConfig: build_cascade_rcnn,
    TorchvisionConfig: build_torchvision,
}
"""The function that builds a network from its settings and the number of classes."""

AnyDetectorConfig = Annotated[
    FasterRCNNConfig | RetinaNetConfig | CascadeRCNNConfig | TorchvisionConfig,
    Field(discriminator="kind"),
]
"""Settings of any detector in ``NETWORKS``, told apart by their field ``kind``."""


def build_detector(
    config: DetectorConfig, stage: StageConfig | None, num_classes: int, *, frozen: bool = False
) -> Detector:
    """Build a detector with random heads, and with the weights that its settings name.

    Args:
        config: settings of the network, such as :class:`postnms.FasterRCNNConfig`.
        stage: settings of the stage. None: the bare detector.
        num_classes: number of classes, without a background class.
        frozen: train only the stage.

    Example:
        >>> from postnms import FasterRCNNConfig, StageConfig, build_detector
        >>> detector = build_detector(FasterRCNNConfig(), StageConfig(), num_classes=3)
        >>> detector.row_names
        ('nms', 'post_nms')
    """
    network = NETWORKS[type(config)](config, num_classes)
    return attach(network, stage, frozen=frozen)
