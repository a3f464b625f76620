"""Detectors: a network that gives candidates, and the pipeline around it."""

from postnms.detectors.build import build_detector
from postnms.detectors.config import BackboneConfig, DetectorConfig, FasterRCNNConfig
from postnms.detectors.detector import Detector, Output

__all__ = ["BackboneConfig", "Detector", "DetectorConfig", "FasterRCNNConfig", "Output", "build_detector"]
