"""What contextual rescoring learns: how well each detection lies on an object of its own.

d: detections, m: objects.
"""

import numpy as np
import torch
from torch import Tensor

from postnms.boxes import area, intersection, pairwise_iou
from postnms.structures import Detections, Targets, of_image

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU thresholds of the matching, those of COCO's AP."""
CROWD_SHARE = 0.5
"""A box is not trained on if it is on no object and more than this share of its area lies inside a
crowd region of its class."""


def quality_of(detections: Detections, targets: Targets) -> tuple[Tensor, Tensor]:
    """Match detections with objects, one to one, and return how well they lie.

    Objects are given away at falling IoU thresholds, 0.95 to 0.5. At each threshold the detections
    choose by falling score (ties: the lower row): each that has no object yet takes the free
    object of its image and class with the largest IoU (ties: the lower row), if that is at least
    the threshold. So a detection that lies well gets the object before one that scores well, and
    between detections of the same interval the score decides. Crowd regions are no objects.

    Args:
        detections: by image, then by falling score.
        targets: the objects of the same images.

    Returns:
        (d,) float32: IoU with the object that the detection has got, 0 without one.
        (d,) bool: whether the detection is trained on. It is not if it has no object and lies on a
        crowd region.
    """
    parts = [
        _of_image(of_image(detections, image), of_image(targets, image))
        for image in range(detections.num_images)
    ]
    if not parts:
        return torch.zeros(0), torch.zeros(0, dtype=torch.bool)
    quality, counted = zip(*parts, strict=True)
    return torch.cat(quality), torch.cat(counted)


def _of_image(detections: Detections, targets: Targets) -> tuple[Tensor, Tensor]:
    """Return quality and use of the detections of one image."""
    # In float64, so that an overlap of exactly a threshold is on the right side of it.
    iou = pairwise_iou(detections.boxes.double(), targets.boxes.double())
    same = detections.labels[:, None] == targets.labels
    iou = torch.where(same & ~targets.crowd, iou, 0.0).numpy()
    quality = np.zeros(len(iou), np.float32)
    taken = np.zeros(iou.shape[1], np.bool_)
    rows, objects = np.nonzero(iou >= THRESHOLDS[0])
    overlaps = iou[rows, objects]
    # A pair is new at the largest threshold that it reaches: at a lower one, its detection or its
    # object has been given away. So one walk through the pairs does what a walk for each threshold
    # would do.
    interval = np.searchsorted(THRESHOLDS, overlaps, side="right")
    for pair in np.lexsort((objects, -overlaps, rows, -interval)).tolist():
        row, number = rows[pair], objects[pair]
        if quality[row] == 0 and not taken[number]:
            quality[row] = overlaps[pair]
            taken[number] = True
    found = torch.from_numpy(quality)
    return found, (found > 0) | ~on_crowd(detections.boxes, detections.labels, targets)


def on_crowd(boxes: Tensor, labels: Tensor, targets: Targets) -> Tensor:
    """Return whether boxes lie on a crowd region of their class in the one image: (d,) bool."""
    crowd = targets.boxes[targets.crowd]
    shared = intersection(boxes[:, None], crowd[None])
    shared = torch.where(labels[:, None] == targets.labels[targets.crowd], shared, 0.0)
    return (shared > CROWD_SHARE * area(boxes)[:, None]).any(dim=1)
