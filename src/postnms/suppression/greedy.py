"""Greedy NMS, what detectors do today: of each cluster the key is kept. k: clusters, d: detections."""

from torch import Tensor

from postnms.clustering import cluster
from postnms.structures import Candidates, Clusters, Detections, take, top_per_image


def keep_keys(clusters: Clusters, max_detections: int) -> tuple[Detections, Tensor]:
    """The best keys of each image, and for each (d,) the position in ``clusters.keys`` that it comes from."""
    keys = take(clusters.candidates, clusters.keys)
    chosen = top_per_image(keys.scores, keys.image, keys.num_images, max_detections)
    best = take(keys, chosen)
    return Detections(best.boxes, best.scores, best.labels, best.image, best.source, best.num_images), chosen


def nms(candidates: Candidates, iou_threshold: float = 0.5, max_detections: int = 100) -> Detections:
    """Greedy NMS per image and class: drop what overlaps a better-scored kept box with IoU > threshold."""
    return keep_keys(cluster(candidates, iou_threshold), max_detections)[0]


def nms_again(detections: Detections, iou_threshold: float) -> Detections:
    """Greedy NMS on detections whose boxes or scores have changed since they were suppressed."""
    columns = (detections.boxes, detections.scores, detections.labels, detections.image, detections.source)
    most = max(len(detections.scores), 1)
    return nms(Candidates(*columns, detections.num_images), iou_threshold, most)
