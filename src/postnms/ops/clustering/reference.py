"""``cluster_nms`` in plain loops: the specification that every other backend is tested against. O(n * k)."""

import numpy as np
import torch
from torch import Tensor


def cluster_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """See :func:`postnms.ops.cluster_nms`."""
    rows, points, members = boxes.cpu().numpy(), scores.tolist(), groups.tolist()
    keys: list[int] = []
    assignment = [-1] * len(points)
    for candidate in sorted(range(len(points)), key=lambda index: (-points[index], index)):
        for position, key in enumerate(keys):
            if (
                members[key] == members[candidate]
                and _iou(rows[key], rows[candidate]) > iou_threshold
            ):
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
    """In the dtype of the boxes, rounded after every operation as the vectorised backends do."""
    zero = first.dtype.type(0)
    width = max(min(first[2], second[2]) - max(first[0], second[0]), zero)
    height = max(min(first[3], second[3]) - max(first[1], second[1]), zero)
    shared = width * height
    area = (first[2] - first[0]) * (first[3] - first[1])
    union = area + (second[2] - second[0]) * (second[3] - second[1]) - shared
    return shared / union if union > 0 else zero
