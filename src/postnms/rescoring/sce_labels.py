"""What the two stages of Sequential Context Encoding learn.

n: rows of all sequences.
"""

import torch
from torch import Tensor

from postnms.boxes import pairwise_iou
from postnms.clustering import cluster
from postnms.rescoring.quality import on_crowd
from postnms.rescoring.sequences import Sequences
from postnms.structures import Candidates, Targets, derive, take


def kept_by_nms(candidates: Candidates, sequences: Sequences, iou_threshold: float) -> Tensor:
    """Return whether greedy NMS of the rows keeps each of them: (n,) bool, in their order."""
    # Candidates that are out of all sequences suppress nothing.
    rows = take(derive(candidates, extra={}), sequences.rows)
    keys = cluster(rows, iou_threshold).keys
    return torch.zeros(len(sequences), dtype=torch.bool).index_fill(0, keys, True)


def best_of_objects(
    candidates: Candidates, sequences: Sequences, targets: Targets, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """Return which row is the best one of an object, for candidates of one image.

    The best row of an object is the first one of the sequence of its class with an IoU of at least
    the threshold, which is the one with the best score. It may be that of several objects. Crowd
    regions are no objects.

    Returns:
        (n,) bool: whether a row is the best one of an object.
        (n,) bool: whether a row is trained on. It is not if it is no best one and lies on a crowd
        region.
    """
    rows = take(derive(candidates, extra={}), sequences.rows)
    iou = pairwise_iou(rows.boxes.double(), targets.boxes.double())
    same = (rows.labels[:, None] == targets.labels) & ~targets.crowd
    near = same & (iou >= iou_threshold)
    first = near & (near.cumsum(dim=0) == 1)
    best = first.any(dim=1)
    return best, best | ~on_crowd(rows.boxes, rows.labels, targets)
