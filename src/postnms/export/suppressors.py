"""Suppressors in standard operators of ONNX, for ``torch.onnx.export``.

A program of ``torch.export`` holds a suppressor as one operator (``postnms::suppress``). Greedy NMS
and Soft-NMS have a form in ONNX, with the order, the ties and the limit of this library.

n: candidates, d: detections, B: images.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import onnx
import torch
from onnxscript import opset18

from postnms.export.operators import Value, integer, integers, kept_keys
from postnms.export.rounds import soft_nms_rounds
from postnms.suppression.greedy import GreedyNMS, NoSuppression
from postnms.suppression.protocol import Suppressor
from postnms.suppression.soft import SoftNMS

op: Any = opset18
Kept = tuple[Value, Value]
"""Rows (d,) int64 of the candidates that are kept, equal scores by row, and their scores (d,)."""


def suppress(
    boxes: Value,
    scores: Value,
    labels: Value,
    image: Value,
    source: Value,
    names: list[str],
    extra: list[Value],
    num_images: Value,
    kind: str,
    settings: str,
    backend: str = "",
) -> tuple[Value, ...]:
    """Write ``postnms::suppress``: five columns of the detections, no extra columns, and ``cut``.

    Raises ValueError for a suppressor that :func:`has_form` does not know, and for extra columns.
    """
    module, _, name = kind.partition(":")
    suppressor = getattr(import_module(module), name).model_validate_json(settings)
    if not has_form(suppressor) or extra:
        raise ValueError(f"{name} {settings} has no form in standard operators")
    groups = image if suppressor.class_agnostic else _groups(labels, image)
    rows, kept = _kept(suppressor, boxes, scores, groups)
    of_kept = op.Gather(image, rows)
    best, cut = _best_of_images(kept, of_kept, num_images, suppressor.max_detections)
    rows = op.Gather(rows, best)
    found = op.Gather(boxes, rows), op.Gather(kept, best), op.Gather(labels, rows)
    # The place of the extra columns. Nothing reads it, since there are none.
    nothing = op.Identity(cut)
    return *found, op.Gather(image, rows), op.Gather(source, rows), nothing, cut


def has_form(suppressor: Suppressor) -> bool:
    """Return whether a suppressor can be written in standard operators."""
    if isinstance(suppressor, GreedyNMS):
        return suppressor.overlap == "iou"
    if isinstance(suppressor, SoftNMS):
        return suppressor.method != "hard"
    return isinstance(suppressor, NoSuppression)


def _groups(labels: Value, image: Value) -> Value:
    """Return a number for each pair of an image and a class."""
    # One more entry, so that there is a largest label without any candidate too.
    largest = op.ReduceMax(op.Concat(labels, integers([0]), axis=0), keepdims=0)
    return op.Add(op.Mul(image, op.Add(largest, integer(1))), labels)


def _kept(suppressor: Suppressor, boxes: Value, scores: Value, groups: Value) -> Kept:
    """Return what a suppressor keeps of the candidates over its score threshold."""
    if suppressor.score_threshold is None:
        return _kept_of_all(suppressor, boxes, scores, groups)
    threshold = op.Constant(value_float=suppressor.score_threshold)
    over = op.Reshape(op.NonZero(op.Greater(scores, threshold)), integers([-1]))
    columns = [op.Gather(column, over) for column in (boxes, scores, groups)]
    rows, kept = _kept_of_all(suppressor, *columns)
    return op.Gather(over, rows), kept


def _kept_of_all(suppressor: Suppressor, boxes: Value, scores: Value, groups: Value) -> Kept:
    if isinstance(suppressor, GreedyNMS):
        rows = kept_keys(boxes, scores, groups, suppressor.iou_threshold)
        return rows, op.Gather(scores, rows)
    if isinstance(suppressor, SoftNMS):
        return _softened(suppressor, boxes, scores, groups)
    count = op.Squeeze(op.Shape(scores))
    return op.Range(integer(0), count, integer(1)), scores


def _softened(suppressor: SoftNMS, boxes: Value, scores: Value, groups: Value) -> Kept:
    gaussian = suppressor.method == "gaussian"
    final = soft_nms_rounds(
        boxes,
        scores,
        groups,
        integer(suppressor.max_detections),
        op.Cast(integer(int(gaussian)), to=onnx.TensorProto.BOOL),
        # The Gaussian decay lowers the score of whatever overlaps.
        iou_threshold=0.0 if gaussian else suppressor.iou_threshold,
        sigma=suppressor.sigma,
        min_score=suppressor.min_score,
    )
    selected = op.GreaterOrEqual(final, op.Constant(value_float=0.0))
    rows = op.Reshape(op.NonZero(selected), integers([-1]))
    return rows, op.Gather(final, rows)


def _best_of_images(scores: Value, image: Value, num_images: Value, most: int) -> Kept:
    """Return the best entries by image, then by falling score, then by row; and the cut images.

    See :func:`postnms.orders.top_per_image` and :func:`postnms.orders.cut_images`.
    """
    # TopK puts the lower index first where values are equal.
    _, order = op.TopK(scores, op.Shape(scores), axis=0)
    image, by_image = op.TopK(op.Gather(image, order), op.Shape(scores), axis=0, largest=0)
    order = op.Gather(order, by_image)
    ones = op.Add(op.Mul(image, integer(0)), integer(1))
    none = op.Expand(integer(0), op.Reshape(num_images, integers([1])))
    counts = op.ScatterElements(none, image, ones, axis=0, reduction="add")
    starts = op.CumSum(counts, integer(0), exclusive=1)
    places = op.Range(integer(0), op.Squeeze(op.Shape(scores)), integer(1))
    rank = op.Sub(places, op.Gather(starts, image))
    stays = op.Less(rank, integer(most))
    return op.Compress(order, stays, axis=0), op.Greater(counts, integer(most))


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the functions of this file by the operators that they write."""
    return {torch.ops.postnms.suppress.default: suppress}
