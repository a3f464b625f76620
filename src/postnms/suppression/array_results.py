"""Results of suppressors as arrays of the kind and the dtypes of the input.

n: boxes of an image, k: kept boxes of an image.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from postnms.boxes import paired_iou
from postnms.structures import Detections
from postnms.suppression.array_kinds import Array, as_floating, is_floats, is_torch

_PAIRS_AT_ONCE = 1 << 22
"""Largest number of pairs of boxes whose overlap is in memory together."""


@dataclass(frozen=True)
class Suppressed:
    """The kept boxes of one image, by falling score. All arrays are of the kind that came in."""

    boxes: Array
    """(k, 4) x1, y1, x2, y2, in the dtype of the input where that is floating, else float32."""
    scores: Array
    """(k,), in the dtype of the input where that is floating, else float32."""
    labels: Array
    """(k,), in the dtype of the input."""
    index: Array
    """(k,) int64: the input row of each kept box. Of a fused box it is the row that began it."""
    _owners: Callable[[], Tensor] = field(repr=False)
    _to_kind: Callable[[Tensor], Array] = field(repr=False)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def cluster(self) -> Array:
        """(n,) int64: position in ``boxes`` of the kept box that owns each input row.

        A kept row owns itself. Any other row is owned by the first kept box of its label that
        overlaps it by more than the threshold, as in NMS. -1: no kept box does.
        """
        return self._to_kind(self._owners())


def unmoved(
    boxes: Any,
    scores: Any,
    labels: Any,
    tensors: tuple[Tensor, Tensor],
    clustered: tuple[Tensor, Tensor],
    to_kind: Callable[[Tensor], Array],
) -> Suppressed:
    """Return the keys in the kind and dtypes of the input. ``tensors``: its boxes and scores."""
    keys, owner = clustered
    index = to_kind(keys)
    kept_boxes, kept_scores = (
        # numpy takes rows in less time than torch.
        given.take(index, 0)
        if isinstance(index, np.ndarray) and is_floats(given)
        else to_kind(as_floating(tensor)[keys])
        for given, tensor in zip((boxes, scores), tensors, strict=True)
    )
    if labels is None:
        names = to_kind(torch.zeros_like(keys))
    elif is_torch(labels):
        names = to_kind(labels[keys])
    else:
        names = np.asarray(labels)[keys.cpu().numpy()]
    return Suppressed(kept_boxes, kept_scores, names, index, lambda: owner, to_kind)


def in_kind_of_input(
    boxes: Tensor,
    scores: Tensor,
    names: Any,
    found: Detections,
    owners: Callable[[], Tensor],
    to_kind: Callable[[Tensor], Array],
) -> Suppressed:
    """Return the result in the kind and dtypes of the input."""
    index = found.source
    kept_boxes = as_floating(boxes)[index]
    kept_scores = as_floating(scores)[index]
    # What has not changed in float32 keeps the exact value of the input.
    moved = found.boxes != kept_boxes.float()
    kept_boxes = torch.where(moved, found.boxes.to(kept_boxes.dtype), kept_boxes)
    changed = found.scores != kept_scores.float()
    kept_scores = torch.where(changed, found.scores.to(kept_scores.dtype), kept_scores)
    in_numpy = index.cpu().numpy()
    labels = to_kind(names[index]) if is_torch(names) else np.asarray(names)[in_numpy]
    return Suppressed(
        to_kind(kept_boxes), to_kind(kept_scores), labels, to_kind(index), owners, to_kind
    )


def owners(boxes: Tensor, labels: Tensor, found: Detections, threshold: float) -> Tensor:
    """Return the position (n,) of the kept box that owns each row, see ``Suppressed.cluster``."""
    count, kept = len(boxes), len(found.source)
    owner = torch.full((count,), -1, dtype=torch.int64, device=boxes.device)
    step = max(_PAIRS_AT_ONCE // max(kept, 1), 1)
    for start in range(0, count if kept else 0, step):
        rows = slice(start, start + step)
        part = boxes[rows]
        iou = paired_iou(part[:, None].expand(-1, kept, -1), found.boxes[None])
        fits = (iou > threshold) & (labels[rows, None] == labels[found.source][None])
        owner[rows] = torch.where(fits.any(1), fits.int().argmax(1), -1)
    owner[found.source] = torch.arange(kept, device=boxes.device)
    return owner
