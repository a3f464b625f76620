"""``cluster_nms`` in plain loops: the specification of the operation.

The tests compare every other backend with this one. The time is O(n * k).

n: candidates, k: keys.
"""

import numpy as np
import torch
from torch import Tensor


def cluster_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """Return keys and assignment as :func:`postnms.ops.cluster_nms` defines them."""
    corners = boxes.cpu().numpy()
    score_of = scores.tolist()
    group_of = groups.tolist()
    keys: list[int] = []
    assignment = [-1] * len(score_of)
    for candidate in sorted(range(len(score_of)), key=lambda index: (-score_of[index], index)):
        for position, key in enumerate(keys):
            if (
                group_of[key] == group_of[candidate]
                and _iou(corners[key], corners[candidate]) > iou_threshold
            ):
                # Keys are listed by falling score, so this is the first one that overlaps.
                assignment[candidate] = position
                break
        else:
            assignment[candidate] = len(keys)
            keys.append(candidate)
    device = boxes.device
    return (
        torch.tensor(keys, dtype=torch.int64, device=device),
        torch.tensor(assignment, dtype=torch.int64, device=device),
    )


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    """Return the IoU of two boxes (4,), in their dtype. It is 0 if neither box has an area.

    Every operation is rounded to that dtype, as in the vectorised backends. An area that is too
    large for it is infinite, and then the IoU is 0 too.
    """
    zero = first.dtype.type(0)
    with np.errstate(over="ignore", invalid="ignore"):
        width = max(min(first[2], second[2]) - max(first[0], second[0]), zero)
        height = max(min(first[3], second[3]) - max(first[1], second[1]), zero)
        shared = width * height
        area = (first[2] - first[0]) * (first[3] - first[1])
        union = area + (second[2] - second[0]) * (second[3] - second[1]) - shared
        return shared / union if union > 0 else zero
