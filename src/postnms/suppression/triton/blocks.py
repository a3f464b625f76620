"""How the Triton kernels of the suppressors run, and how they choose the best of a group.

No kernel of this folder has run on a GPU. They run in Triton's interpreter, and they compile for
CUDA.

All host functions and kernels take the ranked candidates by these arguments:

- ``columns`` (4, n) float32: the left, top, right and bottom edges of the boxes, in pixels.
- ``starts`` (g + 1,) int64: group i holds the positions starts[i] to starts[i + 1] - 1.
- ``group`` (n,) int64: the number of the group of each candidate. Only kernels that run one program
  for each candidate need it. The others run one for each group.

A program visits its group in blocks of ``BLOCK`` candidates, so a group may have any size. It waits
at a barrier (``tl.debug_barrier``) after its threads have read what one of them overwrites, and
before they read what another one has written. The host does not wait for any kernel.

n: candidates, g: groups.
"""

from typing import Any

import torch
import triton
import triton.language as tl

BLOCK = 512
"""Number of candidates that a program handles together, a power of two.

Each of the 128 threads of a program holds four of them, one load of 16 bytes of a float32 column.
Most groups of a detector, a class of an image, fit into one block.
"""

LAUNCH: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": False}
"""Options of every launch. A fused product and sum would be rounded once instead of twice."""

NO_ROW = tl.constexpr(2**62)
"""Row of a lane without a candidate, larger than that of any candidate."""


def launch(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
    """Run programs of a kernel on the device of its first argument, if there are any."""
    if programs:
        with torch.cuda.device_of(arguments[0]):
            kernel[(programs,)](*arguments, **constants, **LAUNCH)


@triton.jit
def no_best(block: tl.constexpr):
    """Return the value, the row and the place of ``block`` lanes that hold no candidate."""
    value = tl.full([block], -float("inf"), tl.float32)
    return value, tl.full([block], NO_ROW, tl.int64), tl.full([block], -1, tl.int64)


@triton.jit
def better(takes, value, row, place, best):
    """Return ``best`` with the lanes replaced whose new candidate is better.

    ``best`` has a value, a row and a place for each lane. A better candidate has a larger value, or
    an equal one and a lower row. Only lanes where ``takes`` is true have a new candidate.
    """
    best_value, best_row, best_place = best
    takes &= (value > best_value) | ((value == best_value) & (row < best_row))
    return (
        tl.where(takes, value, best_value),
        tl.where(takes, row, best_row),
        tl.where(takes, place, best_place),
    )


@triton.jit
def place_of_best(best) -> Any:
    """Return the place of the best lane, of equal values that of the lowest row, -1 for none."""
    value, row, place = best
    row = tl.where(value == tl.max(value), row, NO_ROW)
    return tl.max(tl.where(row == tl.min(row), place, -1))
