"""The rounds of Soft-NMS in standard operators of ONNX: a ``Loop`` that serves all groups at once.

The function below is not run as Python. onnxscript reads its text and writes a function of ONNX,
which the exporter puts in the place of its call. Python's operators are those of ONNX here.

n: candidates, g: groups.
"""

from typing import Any

from onnxscript import FLOAT, opset18, script
from onnxscript.values import Opset

op: Any = opset18
OWN = Opset("postnms", 1)
"""Where the function is until it is put in the place of its call."""


@script(OWN, default_opset=opset18)
def soft_nms_rounds(
    boxes,
    scores,
    groups,
    most,
    gaussian,
    iou_threshold: float,
    sigma: float,
    min_score: float,
) -> FLOAT[...]:  # pragma: no cover: onnxscript reads it
    """Return the score (n,) with which each candidate is selected, -1 for those that never are.

    See :class:`postnms.suppression.soft.SoftNMS`. Each round selects the best candidate that is
    left in every group, of equal ones the lower row, and lowers the scores of the others.

    Args:
        boxes: (n, 4) float32.
        scores: (n,) float32, in [0, 1].
        groups: (n,) int64, from 0 on.
        most: () int64, the number of rounds at most. What a group selects later scores less, so
            that a limit of detections is one of rounds too.
        gaussian: () bool, whether the decay is the Gaussian one, and not the linear one.
        iou_threshold: IoU over which a score is lowered.
        sigma: width of the Gaussian decay.
        min_score: least score of a candidate that is left.
    """
    zero = op.Constant(value_float=0.0)
    one = op.Constant(value_float=1.0)
    gone = op.Constant(value_float=-1.0)
    flat = op.Constant(value_ints=[-1])
    least = op.Constant(value_float=min_score)
    threshold = op.Constant(value_float=iou_threshold)
    width = op.Constant(value_float=sigma)
    count = op.Squeeze(op.Shape(scores))
    rows = op.Range(op.Constant(value_int=0), count, op.Constant(value_int=1))
    first_group = op.Constant(value_ints=[0])
    largest = op.ReduceMax(op.Concat(groups, first_group, axis=0), keepdims=0)
    shape = op.Reshape(largest + op.Constant(value_int=1), flat)
    no_score = op.Expand(gone, shape)  # (g,)
    no_row = op.Expand(count, shape)  # (g,)
    left, top, right, bottom = op.Split(op.Transpose(boxes, perm=[1, 0]), axis=0, num_outputs=4)
    left = op.Reshape(left, flat)
    top = op.Reshape(top, flat)
    right = op.Reshape(right, flat)
    bottom = op.Reshape(bottom, flat)
    area = (right - left) * (bottom - top)

    # A score of -1 is that of a candidate that was selected or dropped.
    current = op.Where(scores >= least, scores, gone)
    final = op.Expand(gone, op.Shape(scores))
    going = op.ReduceMax(op.Concat(current, op.Reshape(gone, flat), axis=0), keepdims=0) >= zero
    rounds = op.Where(going, most, op.Constant(value_int=0))
    for _ in range(rounds):
        is_left = current >= zero
        best_score = op.ScatterElements(no_score, groups, current, axis=0, reduction="max")
        ties = op.And(is_left, op.Equal(current, op.Gather(best_score, groups)))
        tied_rows = op.Where(ties, rows, count)
        best_row = op.ScatterElements(no_row, groups, tied_rows, axis=0, reduction="min")
        best = op.Gather(best_row, groups)  # (n,): the row that its group selects
        is_best = op.Equal(best, rows)
        final = op.Where(is_best, current, final)
        # A group that has none left lowers scores of -1, which stay.
        row = op.Min(best, count - op.Constant(value_int=1))
        across = op.Min(right, op.Gather(right, row)) - op.Max(left, op.Gather(left, row))
        down = op.Min(bottom, op.Gather(bottom, row)) - op.Max(top, op.Gather(top, row))
        shared = op.Relu(across) * op.Relu(down)
        union = area + op.Gather(area, row) - shared
        iou = op.Where(union > zero, shared / union, zero)
        factor = op.Where(gaussian, op.Exp(op.Neg(iou * iou) / width), one - iou)
        lowered = op.Where(iou > threshold, current * factor, current)
        stays = op.And(op.And(is_left, lowered >= least), op.Not(is_best))
        current = op.Where(stays, lowered, gone)
        done = op.ReduceMax(current, keepdims=0) < zero
        if done:
            break
    return final
