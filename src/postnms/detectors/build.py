"""From configs to a detector."""

from postnms.detectors.config import DetectorConfig
from postnms.detectors.detector import Detector
from postnms.detectors.faster_rcnn import build_faster_rcnn
from postnms.stage import PostNMSStage, StageConfig

NETWORKS = {"faster_rcnn": build_faster_rcnn}


def build_detector(config: DetectorConfig, stage: StageConfig | None, num_classes: int) -> Detector:
    """A detector for ``num_classes`` classes; ``stage=None`` is the bare detector."""
    network = NETWORKS[config.kind](config, num_classes)
    if stage is None:
        return Detector(network)
    return Detector(network, PostNMSStage(stage, network.channels, num_classes, network.levels))
