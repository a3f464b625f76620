"""postnms: NMS read as clustering, and a trainable stage that re-scores and re-locates what it keeps."""

from postnms.clustering import cluster, representative_boxes
from postnms.detectors import Detector, Output, attach, build_detector, from_torchvision
from postnms.errors import UserError
from postnms.ops import cluster_nms
from postnms.recipes import Recipe, get_recipe
from postnms.stage import PostNMSStage, StageConfig
from postnms.structures import Candidates, Clusters, Detections, Level, Targets
from postnms.suppression import SUPPRESSORS, Suppressor, get_suppressor

__all__ = [
    "Candidates",
    "Clusters",
    "Detections",
    "Detector",
    "Level",
    "Output",
    "PostNMSStage",
    "Recipe",
    "SUPPRESSORS",
    "StageConfig",
    "Suppressor",
    "Targets",
    "UserError",
    "attach",
    "build_detector",
    "cluster",
    "cluster_nms",
    "from_torchvision",
    "get_recipe",
    "get_suppressor",
    "representative_boxes",
]
