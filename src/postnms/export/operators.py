"""The operators of this library in standard operators of ONNX, for ``torch.onnx.export``.

A program of ``torch.export`` holds clustering and pooling as operators (``postnms::cluster_nms``,
``postnms::pool_pyramid``, ``postnms::pool_decoupled``), since their kernels are no part of torch.
Each function here writes one of them with operators of ONNX 18, from ONNX values to ONNX values.

n: candidates, k: keys, g: groups, r: boxes, C: channels, B: images, s: cells along a side.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import opset18

from postnms.export import owners as owners  # It registers an operator.
from postnms.ops.pooling.roi_align import CANONICAL_LEVEL, CANONICAL_SIDE
from postnms.stage import graphs as graphs  # It registers an operator.

op: Any = opset18
Value = Any
"""A value of an ONNX graph."""
LOWEST = float(np.finfo(np.float32).min)
"""Score of a box in the lists of groups that are not its own."""
ROUNDING = 1e-6
"""What the level rule adds, see :func:`postnms.ops.pooling.roi_align.level_of`."""


def cluster_nms(
    boxes: Value, scores: Value, groups: Value, iou_threshold: float, backend: str = ""
) -> tuple[Value, Value]:
    """Write ``postnms::cluster_nms``: keys (k,) and assignment (n,).

    ``NonMaxSuppression`` of ONNX has the same rules as greedy NMS here: it visits boxes by falling
    score and of equal scores the lower index first, a box is suppressed by IoU > threshold, and a
    box without area has IoU 0. Its classes are the groups: a box takes part in that of its own
    group alone, so grouping is exact.
    """
    keys = kept_keys(boxes, scores, groups, iou_threshold)
    overlaps = _overlaps(boxes, groups, keys, iou_threshold)
    # Every candidate is a key or overlaps one.
    return keys, _own_themselves(_first_of(overlaps), keys)


def first_owner(boxes: Value, groups: Value, keys: Value, iou_threshold: float) -> Value:
    """Write ``postnms::first_owner``: the position of the key that owns each candidate, or -1."""
    overlaps = _overlaps(boxes, groups, keys, iou_threshold)
    is_owned = op.Greater(
        op.ReduceMax(overlaps, integers([1]), keepdims=0), op.Constant(value_float=0.0)
    )
    first = op.Where(is_owned, _first_of(overlaps), integer(-1))
    return _own_themselves(first, keys)


def kept_keys(boxes: Value, scores: Value, groups: Value, iou_threshold: float) -> Value:
    """Return the rows that greedy NMS keeps, by falling score; of equal scores the lower row."""
    # One more entry, so that there is a largest number without any candidate too.
    largest = op.ReduceMax(op.Concat(groups, integers([0]), axis=0), keepdims=0)
    numbers = op.Range(integer(0), op.Add(largest, integer(1)), integer(1))
    is_member = op.Equal(op.Unsqueeze(numbers, integers([1])), op.Unsqueeze(groups, integers([0])))
    lowest = op.Constant(value_float=LOWEST)
    by_group = op.Where(is_member, op.Unsqueeze(scores, integers([0])), lowest)  # (g, n)
    selected = op.NonMaxSuppression(
        op.Unsqueeze(boxes, integers([0])),
        op.Unsqueeze(by_group, integers([0])),
        integers([np.iinfo(np.int32).max]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[LOWEST]),
    )
    rows = op.Reshape(op.Gather(selected, integers([2]), axis=1), integers([-1]))
    # They come group by group. TopK puts the lower index first where scores are equal, so the rows
    # have to rise before it.
    nothing = op.ConstantOfShape(op.Shape(scores), value=_zero(onnx.TensorProto.INT64))
    is_kept = op.ScatterElements(
        nothing, rows, op.Add(op.Mul(rows, integer(0)), integer(1)), axis=0
    )
    rising = op.Reshape(op.NonZero(is_kept), integers([-1]))
    _, order = op.TopK(op.Gather(scores, rising, axis=0), op.Shape(rising), axis=0)
    return op.Gather(rising, order, axis=0)


def _overlaps(boxes: Value, groups: Value, keys: Value, iou_threshold: float) -> Value:
    """Return whether each candidate overlaps each key of its group, 0 or 1: (n, k + 1) float32.

    The last column is 0, since there may be no key.
    """
    of_keys = op.Transpose(op.Gather(boxes, keys, axis=0), perm=[1, 0])
    iou = _pairwise_iou(
        [op.Gather(boxes, integers([column]), axis=1) for column in range(4)],
        [op.Gather(of_keys, integers([column]), axis=0) for column in range(4)],
    )
    group_of_key = op.Unsqueeze(op.Gather(groups, keys, axis=0), integers([0]))
    is_own_group = op.Equal(op.Unsqueeze(groups, integers([1])), group_of_key)
    is_over = op.Greater(iou, op.Constant(value_float=iou_threshold))
    overlaps = op.Cast(op.And(is_own_group, is_over), to=onnx.TensorProto.FLOAT)
    return op.Pad(overlaps, integers([0, 0, 0, 1]))


def _first_of(overlaps: Value) -> Value:
    """Return the position of the first key that each candidate overlaps: (n,).

    Keys come in the order of their scores.
    """
    return op.ArgMax(overlaps, axis=1, keepdims=0, select_last_index=0)


def _own_themselves(owner: Value, keys: Value) -> Value:
    """Return the owners (n,) where a key owns itself, also without an area."""
    positions = op.Range(integer(0), op.Squeeze(op.Shape(keys)), integer(1))
    return op.ScatterElements(owner, keys, positions, axis=0)


def _pairwise_iou(first: Sequence[Value], second: Sequence[Value]) -> Value:
    """Return the IoU (n, k) of boxes with columns (n, 1) and boxes with columns (1, k)."""
    zero = op.Constant(value_float=0.0)
    width = op.Sub(op.Min(first[2], second[2]), op.Max(first[0], second[0]))
    height = op.Sub(op.Min(first[3], second[3]), op.Max(first[1], second[1]))
    shared = op.Mul(op.Relu(width), op.Relu(height))
    union = op.Sub(op.Add(_area(first), _area(second)), shared)
    return op.Where(op.Greater(union, zero), op.Div(shared, union), zero)


def _area(columns: Sequence[Value]) -> Value:
    left, top, right, bottom = columns
    return op.Mul(op.Sub(right, left), op.Sub(bottom, top))


def pool_pyramid(
    features: Sequence[Value],
    boxes: Value,
    image: Value,
    strides: Sequence[float],
    cells: int,
    sampling_ratio: int,
) -> Value:
    """Write ``postnms::pool_pyramid``: (r, C, s, s), each box from the level of its size."""
    if len(features) == 1:
        return _roi_align(features[0], boxes, image, strides[0], cells, sampling_ratio)
    level = _level_of(boxes, strides)
    pooled, rows = [], []
    for index, (feature, stride) in enumerate(zip(features, strides, strict=True)):
        of_level = op.Reshape(op.NonZero(op.Equal(level, integer(index))), integers([-1]))
        chosen = op.Gather(boxes, of_level, axis=0)
        on_image = op.Gather(image, of_level, axis=0)
        pooled.append(_roi_align(feature, chosen, on_image, stride, cells, sampling_ratio))
        rows.append(of_level)
    # The boxes were pooled level by level. Where each row lies among them restores their order.
    order = op.Concat(*rows, axis=0)
    positions = op.Range(integer(0), op.Squeeze(op.Shape(order)), integer(1))
    place = op.ScatterElements(order, order, positions, axis=0)
    return op.Gather(op.Concat(*pooled, axis=0), place, axis=0)


def _level_of(boxes: Value, strides: Sequence[float]) -> Value:
    """Return the level of each box: (r,) int64. ONNX has no logarithm to base 2."""
    finest = float(np.log2(strides[0]))
    columns = [op.Gather(boxes, integer(column), axis=1) for column in range(4)]
    side = op.Sqrt(_area(columns))
    level = op.Cast(op.Mul(side, op.Constant(value_float=0.0)), to=onnx.TensorProto.INT64)
    for number in range(1, len(strides)):
        least = CANONICAL_SIDE * 2 ** (finest + number - CANONICAL_LEVEL - ROUNDING)
        is_over = op.GreaterOrEqual(side, op.Constant(value_float=least))
        level = op.Add(level, op.Cast(is_over, to=onnx.TensorProto.INT64))
    return level


def _roi_align(
    feature: Value, boxes: Value, image: Value, stride: float, cells: int, sampling_ratio: int
) -> Value:
    return op.RoiAlign(
        feature,
        boxes,
        image,
        mode="avg",
        output_height=cells,
        output_width=cells,
        sampling_ratio=sampling_ratio,
        spatial_scale=1 / stride,
        # torchvision's aligned=False: no shift by half a pixel.
        coordinate_transformation_mode="output_half_pixel",
    )


def pool_decoupled(
    levels: Sequence[Value],
    boxes: Value,
    image: Value,
    strides: Sequence[int],
    cells: int,
    count: Value,
    weights: Sequence[Value],
    biases: Sequence[Value],
) -> Value:
    """Write ``postnms::pool_decoupled``: (r, C', s, s), pooled from the convolved levels."""
    shared = len(weights) == 1
    convolved = [
        op.Conv(level, weights[0 if shared else i], biases[0 if shared else i], pads=[1, 1, 1, 1])
        for i, level in enumerate(levels)
    ]
    return pool_pyramid(convolved, boxes, image, strides, cells, SAMPLING_RATIO)


def stable_sort(
    values: Value, stable: bool = True, dim: int = -1, descending: bool = False
) -> tuple[Value, Value]:
    """Write ``aten::sort.stable``. TopK keeps the order of equal values, as a stable sort does."""
    count = op.Gather(op.Shape(values), integers([dim]), axis=0)
    return op.TopK(values, count, axis=dim, largest=int(descending))


def at_most(first: Value, second: Value) -> Value:
    """Write ``first <= second`` for lengths. torch has upper bounds that no int64 holds."""
    if isinstance(second, int):
        second = min(second, np.iinfo(np.int64).max)
    return op.LessOrEqual(first, second)


SAMPLING_RATIO = 2
"""Sample points along each axis of a cell where the stage pools."""


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the functions of this file by the operators that they write."""
    own = torch.ops.postnms
    return {
        torch.ops.aten.sort.stable: stable_sort,
        operator.le: at_most,
        own.cluster_nms.default: cluster_nms,
        own.first_owner.default: first_owner,
        own.pool_pyramid.default: pool_pyramid,
        own.pool_decoupled.default: pool_decoupled,
    }


def integers(values: Sequence[int]) -> Value:
    """Return a constant (v,) int64."""
    return op.Constant(value_ints=list(values))


def integer(value: int) -> Value:
    """Return a constant () int64."""
    return op.Constant(value_int=value)


def _zero(kind: int) -> onnx.TensorProto:
    return onnx.helper.make_tensor("zero", kind, [1], [0])
