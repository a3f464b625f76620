"""A network that gives candidates, and the pipeline around it."""

from postnms.detectors.attach import attach
from postnms.detectors.build import AnyDetectorConfig, build_detector
from postnms.detectors.config import BackboneConfig, DetectorConfig
from postnms.detectors.detector import Detector
from postnms.detectors.image_batch import ImageBatch, prepare_images
from postnms.detectors.modes import as_at_test
from postnms.detectors.network import Network, Selection
from postnms.detectors.networks.cascade_rcnn import CascadeRCNNConfig
from postnms.detectors.networks.faster_rcnn import FasterRCNNConfig
from postnms.detectors.networks.retinanet import RetinaNetConfig
from postnms.detectors.output import Output, Trace
from postnms.detectors.torchvision.adopt import from_torchvision
from postnms.detectors.torchvision.build import TorchvisionConfig

__all__ = [
    "AnyDetectorConfig",
    "BackboneConfig",
    "CascadeRCNNConfig",
    "Detector",
    "DetectorConfig",
    "FasterRCNNConfig",
    "ImageBatch",
    "Network",
    "Output",
    "RetinaNetConfig",
    "Selection",
    "TorchvisionConfig",
    "Trace",
    "as_at_test",
    "attach",
    "build_detector",
    "from_torchvision",
    "prepare_images",
]
