"""From settings to a detector."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import Field

from postnms.detectors.attach import attach
from postnms.detectors.config import DetectorConfig
from postnms.detectors.detector import Detector
from postnms.detectors.networks.cascade_rcnn import CascadeRCNNConfig, build_cascade_rcnn
from postnms.detectors.networks.faster_rcnn import FasterRCNNConfig, build_faster_rcnn
from postnms.detectors.networks.retinanet import RetinaNetConfig, build_retinanet
from postnms.detectors.parts.frame import FramedNetwork
from postnms.detectors.torchvision.build import (
    TorchvisionConfig,
    build_torchvision,
    load_torchvision_weights,
)
from postnms.rivals import HeadsConfig
from postnms.stage import StageConfig

NETWORKS: dict[type[DetectorConfig], Callable[[Any, int], FramedNetwork]] = {
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
    config: DetectorConfig,
    stage: StageConfig | None,
    num_classes: int,
    *,
    heads: HeadsConfig | None = None,
    suppressors: Sequence[str] = (),
    frozen: bool = False,
    exact_weights: bool = False,
) -> Detector:
    """Build a detector with random heads, and with the weights that its settings name.

    Args:
        config: settings of the network, such as :class:`postnms.FasterRCNNConfig`.
        stage: settings of the stage. None: the bare detector.
        num_classes: number of classes, without a background class.
        heads: settings of learned rivals that look at every candidate. None: there are none.
        suppressors: further suppressors, as in :class:`postnms.Detector`.
        frozen: train only the stage and the heads. Weights that the settings name must then fit
            exactly.
        exact_weights: weights of the whole detector that the settings name must fit exactly.
            Otherwise those of other classes are taken except for the layers of the classes, which a
            logged warning names.

    Raises:
        UserError: weights cannot be fetched or read, or they do not fit.

    Example:
        >>> from postnms import FasterRCNNConfig, StageConfig, build_detector
        >>> detector = build_detector(FasterRCNNConfig(), StageConfig(), num_classes=3)
        >>> detector.row_names
        ('nms', 'post_nms')
    """
    network = NETWORKS[type(config)](config, num_classes)
    if isinstance(config, TorchvisionConfig):
        # A layer that starts anew would stay random in a frozen network.
        load_torchvision_weights(network, config, exact=exact_weights or frozen)
    detector = attach(network, stage, heads=heads, suppressors=suppressors, frozen=frozen)
    detector.clustering = None if config.clustering == "auto" else config.clustering
    return detector
