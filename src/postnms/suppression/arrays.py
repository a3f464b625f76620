"""Suppressors on plain arrays, of numpy or torch: boxes, scores and labels in, the kept ones out.

:func:`suppress` is for the boxes of one detector, :func:`fuse` for those of several.

n: boxes of an image, k: kept boxes of an image.
"""

from collections.abc import Sequence
from functools import lru_cache
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from postnms.config import as_python, nearest
from postnms.errors import shown
from postnms.ops import cluster_nms
from postnms.structures import Candidates
from postnms.suppression.array_kinds import (
    Array,
    as_tensor,
    counts_of,
    is_torch,
    joined,
    kind_of,
    numbered,
)
from postnms.suppression.array_results import Suppressed, in_kind_of_input, owners, unmoved
from postnms.suppression.greedy import GreedyNMS
from postnms.suppression.protocol import Suppressor
from postnms.suppression.registry import SUPPRESSORS, get_suppressor

ALIASES = {
    "adaptive": "adaptive_nms",
    "diou": "diou_nms",
    "fast": "fast_nms",
    "greedy": "nms",
    "matrix": "matrix_nms_gaussian",
    "matrix_nms": "matrix_nms_gaussian",
    "merge": "merge_nms",
    "nmm": "non_max_merge",
    "soft": "soft_nms_linear",
    "soft_nms": "soft_nms_linear",
    "voting": "box_voting",
    "weighted_boxes_fusion": "wbf",
}
"""Other names that users have for suppressors, and the names of :data:`SUPPRESSORS`."""

_NO_LIMIT = 2**31 - 1
_COMMON = {float, int, NoneType}
"""Types of limits whose suppressor is remembered."""


def suppress(
    boxes: Array | Sequence[Array],
    scores: Array | Sequence[Array],
    labels: Array | Sequence[Array] | None = None,
    *,
    method: str = "nms",
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    **settings: Any,
) -> Any:
    """Suppress the boxes of an image, or of each image of a list, by any named method.

    Boxes of different labels do not influence each other, except with ``class_agnostic=True``.
    Equal scores: the lower row goes first. Numbers are computed in float32. Boxes and scores that a
    method does not change come back exactly as they came in.

    Args:
        boxes: (n, 4) x1, y1, x2, y2 of any real dtype, or a list of such arrays.
        scores: (n,) of any real dtype, or a list.
        labels: (n,) integers or texts, or a list. None: all boxes have the label 0.
        method: a name of :data:`SUPPRESSORS` or of :data:`ALIASES`.
        iou_threshold: overlap above which boxes suppress each other. None: the method's own, which
            is 0.5 for ``nms``.
        max_detections: largest number of kept boxes of an image, by score. None: no limit.
        settings: further settings of the method, for example ``sigma=0.5``.

    Returns:
        A :class:`Suppressed`, or a list of them if ``boxes`` is a list.

    Raises:
        ValueError: an argument is not as described, or the method has no such setting. The message
            names the argument.

    Example:
        >>> import numpy as np
        >>> from postnms import suppress
        >>> boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10]])
        >>> kept = suppress(boxes, np.array([0.9, 0.8, 0.7]))
        >>> kept.index.tolist(), kept.cluster.tolist()
        ([0, 2], [0, 0, 1])
        >>> suppress(boxes, np.array([0.9, 0.8, 0.7]), method="soft_nms").scores.round(2).tolist()
        [0.9, 0.7, 0.15]
    """
    suppressor = _suppressor(method, iou_threshold, max_detections, settings)
    if not isinstance(boxes, list | tuple):
        return _suppress_image(boxes, scores, labels, suppressor, {})
    count = len(boxes)
    for name, given in (("scores", scores), ("labels", labels)):
        if given is not None and (not isinstance(given, list | tuple) or len(given) != count):
            raise ValueError(f"{name}: expected a list of {count} arrays as boxes is one")
    of_images = labels if labels is not None else [None] * count
    return [
        _suppress_image(*image, suppressor, {})
        for image in zip(boxes, scores, of_images, strict=True)
    ]


def fuse(
    models: Sequence[tuple[Array, Array, Array] | tuple[Array, Array]],
    *,
    method: str = "wbf",
    weights: Sequence[float] | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    **settings: Any,
) -> Suppressed:
    """Fuse the boxes that several models found in one image.

    Args:
        models: for each model boxes (n, 4), scores (n,) and labels (n,), as in :func:`suppress`.
            Labels may be left out for all models.
        method: a name as in :func:`suppress`. ``wbf`` and the other fusing methods move boxes.
        weights: the trust in each model, above 0. With ``wbf`` they are its ``model_weights``.
            With other methods the scores are multiplied by weight / largest weight. None: all 1.
        iou_threshold: as in :func:`suppress`.
        max_detections: as in :func:`suppress`.
        settings: as in :func:`suppress`.

    Returns:
        The fused boxes. ``index`` counts the rows of all models one after another.

    Raises:
        ValueError: an argument is not as described. The message names the argument.

    Example:
        >>> import numpy as np
        >>> from postnms import fuse
        >>> box = np.array([[0.0, 0, 10, 10]])
        >>> fused = fuse([(box, np.array([0.9])), (box + 1, np.array([0.6]))])
        >>> fused.boxes.round(1).tolist(), fused.scores.tolist()
        ([[0.4, 0.4, 10.4, 10.4]], [0.75])
    """
    if not models:
        raise ValueError("models: expected at least one, got none")
    trust = _trust(weights, len(models))
    counts = counts_of(models)
    columns = [joined(column) for column in zip(*models, strict=True)]
    boxes, scores, *labels = columns
    name = _method(method)
    extra = {}
    if name == "wbf":
        settings = {"model_weights": trust, **settings}
        extra = {"model": torch.arange(len(models)).repeat_interleave(torch.tensor(counts)).float()}
    elif weights is not None:
        factors = np.repeat(np.array(trust) / max(trust), counts)
        scores = scores * (torch.from_numpy(factors).to(scores) if is_torch(scores) else factors)
    suppressor = _suppressor(name, iou_threshold, max_detections, settings)
    return _suppress_image(boxes, scores, labels[0] if labels else None, suppressor, extra)


def _trust(weights: Sequence[float] | None, count: int) -> list[float]:
    """Return the weight of each of ``count`` models. Raise ValueError unless they are above 0."""
    if weights is None:
        return [1.0] * count
    try:
        trust = [float(weight) for weight in weights]
    except (TypeError, ValueError):
        trust = []
    if len(trust) != count or not all(0 < weight < np.inf for weight in trust):
        raise ValueError(f"weights: expected {count} numbers above 0, got {shown(weights)}")
    return trust


def _method(name: str) -> str:
    """Return the name of a suppressor. Raise ValueError with the nearest known one."""
    known = ALIASES.get(name, name) if isinstance(name, str) else None
    if known not in SUPPRESSORS:
        hint = nearest(str(name), [*SUPPRESSORS, *ALIASES])
        raise ValueError(f"method: no {shown(name)} ({hint})")
    return known


def _suppressor(
    method: str, iou_threshold: float | None, max_detections: int | None, settings: dict[str, Any]
) -> Suppressor:
    if not {type(iou_threshold), type(max_detections)} <= _COMMON:
        iou_threshold, max_detections = as_python((iou_threshold, max_detections))
    if not settings and {type(iou_threshold), type(max_detections)} <= _COMMON:
        return _common_suppressor(_method(method), iou_threshold, max_detections)
    return _new_suppressor(_method(method), iou_threshold, max_detections, settings)


@lru_cache(maxsize=64, typed=True)
def _common_suppressor(
    name: str, iou_threshold: float | None, max_detections: int | None
) -> Suppressor:
    """Return what :func:`_new_suppressor` returns. To check its settings takes as long as NMS."""
    return _new_suppressor(name, iou_threshold, max_detections, {})


def _new_suppressor(
    name: str, iou_threshold: float | None, max_detections: int | None, settings: dict[str, Any]
) -> Suppressor:
    changes = {
        "max_detections": _NO_LIMIT if max_detections is None else max_detections,
        **settings,
    }
    if iou_threshold is not None:
        changes["iou_threshold"] = iou_threshold
    suppressor = get_suppressor(name)
    return type(suppressor).parse(suppressor.model_dump(mode="json") | changes, name)


def _suppress_image(
    boxes: Any, scores: Any, labels: Any, suppressor: Suppressor, extra: dict[str, Tensor]
) -> Suppressed:
    """Suppress the boxes of one image."""
    to_kind = kind_of(boxes)
    given = as_tensor("boxes", boxes)
    values = as_tensor("scores", scores).to(given.device)
    if given.numel() == 0:
        given = given.reshape(-1, 4)
    if _is_plain(suppressor) and suppressor.max_detections >= len(given) and len(given):
        clustered = _cluster(given, values, labels, suppressor)
        if clustered is not None:
            return unmoved(boxes, scores, labels, (given, values), clustered, to_kind)
    numbers, names = numbered(labels, len(given), given.device)
    candidates = _candidates(given, values, numbers, extra)
    found = suppressor(candidates)
    threshold = _threshold_of(suppressor)
    grouped = torch.zeros_like(numbers) if suppressor.class_agnostic else numbers
    return in_kind_of_input(
        given,
        values,
        names,
        found,
        lambda: owners(candidates.boxes, grouped, found, threshold),
        to_kind,
    )


def _cluster(
    boxes: Tensor, scores: Tensor, labels: Any, suppressor: Suppressor
) -> tuple[Tensor, Tensor] | None:
    """Return what :func:`cluster_nms` returns, or None if the general way has to look closer.

    Most calls have arrays that the operator takes as they are. Its own checks are then enough.
    """
    groups = None
    if labels is not None:
        if not is_torch(labels) and (labels := np.asarray(labels)).dtype.kind not in "iu":
            return None
        numbers = labels if is_torch(labels) else torch.from_numpy(labels.astype(np.int64))
        if numbers.is_floating_point() or numbers.dtype == torch.bool:
            return None
        if numbers.shape != scores.shape:
            return None
        groups = None if suppressor.class_agnostic else numbers.to(boxes.device, torch.int64)
    try:
        return cluster_nms(boxes.float(), scores.float(), groups, _threshold_of(suppressor))
    except ValueError:
        return None


def _is_plain(suppressor: Suppressor) -> bool:
    """Return whether a suppressor is greedy NMS of all boxes, which needs the clusters alone."""
    is_greedy = isinstance(suppressor, GreedyNMS) and suppressor.overlap == "iou"
    return is_greedy and suppressor.score_threshold is None


def _threshold_of(suppressor: Suppressor) -> float:
    """Return the overlap above which a kept box owns a row. Methods without one: that of NMS."""
    threshold = getattr(suppressor, "iou_threshold", None)
    return float(GreedyNMS().iou_threshold if threshold is None else threshold)


def _candidates(
    boxes: Tensor, scores: Tensor, labels: Tensor, extra: dict[str, Tensor]
) -> Candidates:
    """Return the boxes as candidates of one image, in float32. Raise ValueError for wrong ones."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: expected shape (n, 4), got {tuple(boxes.shape)}")
    count = len(boxes)
    if tuple(scores.shape) != (count,):
        raise ValueError(f"scores: expected shape ({count},) as boxes, got {tuple(scores.shape)}")
    columns = {"boxes": boxes.float(), "scores": scores.float()}
    for name, column in columns.items():
        if not bool(torch.isfinite(column).all()):
            raise ValueError(f"{name}: expected finite numbers that float32 holds, got others")
    inverted = (boxes[:, 2:] < boxes[:, :2]).any(dim=1)
    if bool(inverted.any()):
        row = int(inverted.nonzero()[0])
        raise ValueError(
            f"boxes: expected x1 <= x2 and y1 <= y2, got {boxes[row].tolist()} in row {row}; "
            "boxes with width and height are x1, y1, x1 + width, y1 + height"
        )
    image = torch.zeros(count, dtype=torch.int64, device=boxes.device)
    source = torch.arange(count, device=boxes.device)
    extra = {name: column.to(boxes.device) for name, column in extra.items()}
    return Candidates(
        **columns, labels=labels, image=image, source=source, num_images=1, extra=extra
    )
