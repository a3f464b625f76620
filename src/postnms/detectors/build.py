"""From configs to a detector."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Union

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
"""What makes a network of settings and a number of classes."""

if TYPE_CHECKING:
    AnyDetectorConfig = DetectorConfig
else:
    AnyDetectorConfig = Annotated[Union[tuple(NETWORKS)], Field(discriminator="kind")]  # noqa: UP007


def build_detector(
    config: DetectorConfig, stage: StageConfig | None, num_classes: int, *, frozen: bool = False
) -> Detector:
    """A detector for ``num_classes`` classes; ``stage=None``: the bare one, ``frozen``: only the stage is trained."""
    return attach(NETWORKS[type(config)](config, num_classes), stage, frozen=frozen)
