"""Figures of each image alone: in which images one detector is better than another.

d: detections, T: IoU thresholds, B: images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postnms.evaluation.average_precision import accumulate, by_class
from postnms.evaluation.matching import IOU_THRESHOLDS, Matching


@dataclass(frozen=True)
class ImageFigures:
    """The figures of each image, in the order of
    :func:`postnms.evaluation.numbering.image_positions`."""

    ap: NDArray[np.float64]
    """(B,) AP in per cent, NaN for an image without an object.

    The detections of an image are ranked by their score over all classes together, so that a wrong
    box counts whatever its class is. Each finds objects of its class alone, by COCO's rule."""
    objects: NDArray[np.int64]
    """(B,) number of objects, crowd regions left out."""
    found: NDArray[np.int64]
    """(2, B) number of objects that a detection is matched to, at IoU 0.5 and 0.75."""


def image_figures(matching: Matching) -> ImageFigures:
    """Return the figures of each image of a matching at all of COCO's IoU thresholds."""
    count = matching.num_images
    objects = np.bincount(matching.objects.image[matching.objects.counted()], minlength=count)
    # To accumulate, an image is what a class is otherwise: a group with its own ranking.
    rows = by_class(matching.results.image, count)
    precision = accumulate(matching.verdicts[:1], rows, objects[None]).precision[0]
    ap = np.where(objects > 0, 100 * precision.mean(axis=(0, 1)), np.nan)
    levels = [int(np.argmin(abs(IOU_THRESHOLDS - iou))) for iou in (0.5, 0.75)]
    found = [
        np.bincount(matching.results.image[matching.correct[level]], minlength=count)
        for level in levels
    ]
    return ImageFigures(ap, objects, np.array(found))
