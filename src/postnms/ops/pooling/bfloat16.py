"""Copies between the matrices of a compiled kernel and its tensors, which may be in bfloat16.

numpy and numba lack bfloat16. Such a tensor reaches a kernel as the uint16 of its bits. These are
the upper half of the bits of a float32.
"""

import numpy as np
from numba import types
from numba.extending import overload


def store(values, target):
    """Copy a matrix to the output.

    An output of uint16 receives the bits of bfloat16, rounded to nearest, ties to even. This body
    is empty, since only compiled code calls it.
    """


@overload(store, jit_options={"forceinline": True})
def _compiled_store(values, target):
    def same(values, target):
        for i in range(target.shape[0]):
            for j in range(target.shape[1]):
                target[i, j] = values[i, j]

    def rounded(values, target):
        # The low half of the bits is dropped. An odd high half makes a tie round up.
        for i in range(target.shape[0]):
            for j in range(target.shape[1]):
                bits = np.float32(values[i, j]).view(np.uint32)
                odd = (bits >> np.uint32(16)) & np.uint32(1)
                target[i, j] = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)

    return rounded if target.dtype == types.uint16 else same


def load(source, values):
    """Copy a matrix of the same dtype, or of the bits of bfloat16, to ``values``.

    It is the inverse of :func:`store`, and its body is empty for the same reason.
    """


@overload(load, jit_options={"forceinline": True})
def _compiled_load(source, values):
    def same(source, values):
        for i in range(source.shape[0]):
            for j in range(source.shape[1]):
                values[i, j] = source[i, j]

    def widened(source, values):
        for i in range(source.shape[0]):
            for j in range(source.shape[1]):
                bits = np.uint32(np.uint32(source[i, j]) << np.uint32(16))
                values[i, j] = bits.view(np.float32)

    return widened if source.dtype == types.uint16 else same
