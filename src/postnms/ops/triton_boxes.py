"""Boxes in Triton kernels: how they are loaded, and THE overlap of two of them.

All Triton kernels of this library take their IoU from here, as all torch code takes it from
:mod:`postnms.boxes`. Every operation is rounded as there, if the kernel is launched without
``enable_fp_fusion``. A box is a tuple of four tensors: left, top, right and bottom. Two boxes may
have any shapes that broadcast.

Before Triton 3.6 a division in float32 replaces subnormal numbers by 0, which changes only areas
and overlaps below 1e-37.

n: boxes.
"""

import triton
import triton.language as tl


@triton.jit
def corners(columns, n, rows, mask):
    """Return the four coordinates of ``rows`` of ``columns`` (4, n).

    Where ``mask`` is false they are 0: a box without area, which overlaps nothing.
    """
    column = columns + rows
    stride = tl.cast(n, tl.int64)
    left = tl.load(column, mask=mask, other=0)
    top = tl.load(column + stride, mask=mask, other=0)
    right = tl.load(column + 2 * stride, mask=mask, other=0)
    bottom = tl.load(column + 3 * stride, mask=mask, other=0)
    return left, top, right, bottom


@triton.jit
def area(box):
    """Return the area of a box."""
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


@triton.jit
def iou(first, second):
    """Return the IoU of two boxes. It is 0 where both have no area."""
    shared = _shared_area(first, second)
    return ratio(shared, area(first) + area(second) - shared)


@triton.jit
def ios(first, second):
    """Return the shared area of two boxes over the smaller area, or 0 where that is 0."""
    return ratio(_shared_area(first, second), tl.minimum(area(first), area(second)))


@triton.jit
def distance(first, second):
    """Return the squared distance of two centres over the squared diagonal around both boxes."""
    left, top, right, bottom = first
    other_left, other_top, other_right, other_bottom = second
    across = (left + right - other_left - other_right) * 0.5
    down = (top + bottom - other_top - other_bottom) * 0.5
    width = tl.maximum(right, other_right) - tl.minimum(left, other_left)
    height = tl.maximum(bottom, other_bottom) - tl.minimum(top, other_top)
    return ratio(across * across + down * down, width * width + height * height)


@triton.jit
def ratio(part, whole):
    """Return ``part`` / ``whole``, rounded correctly, or 0 where ``whole`` is not positive."""
    divisor = tl.where(whole > 0, whole, 1)
    # Triton's "/" is approximate in float32, and its div_rn takes float32 only.
    quotient = part / divisor if part.dtype == tl.float64 else tl.div_rn(part, divisor)
    return tl.where(whole > 0, quotient, 0)


@triton.jit
def _shared_area(first, second):
    """Return the area that two boxes share."""
    left, top, right, bottom = first
    other_left, other_top, other_right, other_bottom = second
    width = tl.minimum(right, other_right) - tl.maximum(left, other_left)
    height = tl.minimum(bottom, other_bottom) - tl.maximum(top, other_top)
    return tl.maximum(width, 0) * tl.maximum(height, 0)
