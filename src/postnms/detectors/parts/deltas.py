"""Boxes to deltas and back, with the weights that one of torchvision's box coders holds.

The coders make small tensors on the device of the boxes, and the host would wait for a GPU each
time. The results are those of the coders.

n: boxes.
"""

from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, encode_boxes

from postnms.boxes import decode_deltas
from postnms.devices import constant


def decode(coder: BoxCoder, deltas: Tensor, boxes: Tensor) -> Tensor:
    """Return boxes (n, 4), moved by their deltas (n, 4)."""
    # A coder of another class may follow another rule.
    if type(coder) is not BoxCoder:
        return coder.decode_single(deltas, boxes)
    return decode_deltas(boxes, deltas, coder.weights, coder.bbox_xform_clip)


def encode(coder: BoxCoder, truths: Tensor, boxes: Tensor) -> Tensor:
    """Return the deltas (n, 4) that move each box (n, 4) onto the true box of the same row."""
    if type(coder) is not BoxCoder:
        return coder.encode_single(truths, boxes)
    return encode_boxes(truths, boxes, constant(coder.weights, truths.dtype, truths.device))
