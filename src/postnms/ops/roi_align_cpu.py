"""RoIAlign compiled by numba: levels (B, H, W, C) with the channels innermost, pooled (r, C, s, s).

Bilinear sampling is separable: the neighbours and weights of the samples of a box are found once along y and once
along x. Threads share the rows on the way forward and the images on the way back, where each image's gradient is
added up in the order of the boxes: the result does not depend on their number. bfloat16, which numpy lacks, comes and
goes as the uint16 of its bits, with sums in float32.
"""

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

_compiled = njit(cache=True, nogil=True, fastmath={"contract"})
_parallel = njit(cache=True, nogil=True, fastmath={"contract"}, parallel=True)


@_parallel
def forward(levels, rois, image, level, samples, pooled):  # pragma: no cover: compiled
    """Fill ``pooled`` (r, C, s, s) with means of samples x samples bilinear values.

    ``rois``: (r, 4) in cells of their level; ``image``, ``level``: (r,).
    """
    channels, cells = pooled.shape[1], pooled.shape[2]
    for r in prange(len(rois)):
        plane = levels[level[r]][image[r]]
        ones = np.ones(cells * samples, plane.dtype)
        share = ones[0] / plane.dtype.type(samples * samples)
        y_low, y_high, y_near, y_far = _taps(rois[r, 1], rois[r, 3], plane.shape[0], ones)
        x_low, x_high, x_near, x_far = _taps(rois[r, 0], rois[r, 2], plane.shape[1], ones)
        cell = np.empty(channels, plane.dtype)
        for p in range(cells):
            for q in range(cells):
                cell[:] = 0
                for i in range(p * samples, (p + 1) * samples):
                    for j in range(q * samples, (q + 1) * samples):
                        a = y_near[i] * x_near[j] * share
                        b = y_near[i] * x_far[j] * share
                        c = y_far[i] * x_near[j] * share
                        d = y_far[i] * x_far[j] * share
                        top_left, top_right = plane[y_low[i], x_low[j]], plane[y_low[i], x_high[j]]
                        bottom_left, bottom_right = plane[y_high[i], x_low[j]], plane[y_high[i], x_high[j]]
                        for k in range(channels):
                            cell[k] += a * top_left[k] + b * top_right[k] + c * bottom_left[k] + d * bottom_right[k]
                _store(cell, pooled[r, :, p, q])


@_parallel
def backward(levels, rois, image, level, samples, gradients):  # pragma: no cover: compiled
    """Add to ``levels`` what the ``gradients`` (r, C, s, s) give."""
    channels, cells = gradients.shape[1], gradients.shape[2]
    for owner in prange(len(levels[0])):
        ones = np.ones(cells * samples, levels[0].dtype)
        share = ones[0] / ones.dtype.type(samples * samples)
        cell = np.empty(channels, levels[0].dtype)
        for r in range(len(rois)):
            if image[r] != owner:
                continue
            plane = levels[level[r]][owner]
            y_low, y_high, y_near, y_far = _taps(rois[r, 1], rois[r, 3], plane.shape[0], ones)
            x_low, x_high, x_near, x_far = _taps(rois[r, 0], rois[r, 2], plane.shape[1], ones)
            for p in range(cells):
                for q in range(cells):
                    _load(gradients[r, :, p, q], cell)
                    for i in range(p * samples, (p + 1) * samples):
                        for j in range(q * samples, (q + 1) * samples):
                            a = y_near[i] * x_near[j] * share
                            b = y_near[i] * x_far[j] * share
                            c = y_far[i] * x_near[j] * share
                            d = y_far[i] * x_far[j] * share
                            top_left, top_right = plane[y_low[i], x_low[j]], plane[y_low[i], x_high[j]]
                            bottom_left, bottom_right = plane[y_high[i], x_low[j]], plane[y_high[i], x_high[j]]
                            for k in range(channels):
                                top_left[k] += a * cell[k]
                                top_right[k] += b * cell[k]
                                bottom_left[k] += c * cell[k]
                                bottom_right[k] += d * cell[k]


@_compiled
def _taps(start, end, size, ones):  # pragma: no cover: compiled
    """Of len(ones) samples from start to end: the two neighbouring cells and their weights.

    Both weights are 0 for a sample more than a cell outside. ``ones`` brings the dtype: a plain 1 would lift
    everything to float64.
    """
    count = len(ones)
    low, high = np.empty(count, np.int64), np.empty(count, np.int64)
    near, far = np.zeros_like(ones), np.zeros_like(ones)
    step = max(end - start, ones[0]) / count
    for i in range(count):
        exact = start + (i + 0.5) * step
        position = min(max(exact, 0.0), size - 1.0)
        low[i] = min(int(position), size - 1)
        high[i] = min(low[i] + 1, size - 1)
        if -1.0 <= exact <= size:
            far[i] = position - low[i]
            near[i] = ones[0] - far[i]
    return low, high, near, far


def _store(cell, column):
    """Copy a cell's channels to where they belong, rounded to nearest if that is the bits of bfloat16."""


@overload(_store)
def _compiled_store(cell, column):
    def same(cell, column):
        column[:] = cell

    def rounded(cell, column):
        bits = cell.view(np.uint32)
        for k in range(len(cell)):
            odd = (bits[k] >> np.uint32(16)) & np.uint32(1)
            column[k] = (bits[k] + np.uint32(0x7FFF) + odd) >> np.uint32(16)

    return rounded if column.dtype == types.uint16 else same


def _load(column, cell):
    """The way back: a cell's channels from a column of the same dtype or of the bits of bfloat16."""


@overload(_load)
def _compiled_load(column, cell):
    def same(column, cell):
        cell[:] = column

    def widened(column, cell):
        bits = cell.view(np.uint32)
        for k in range(len(cell)):
            bits[k] = np.uint32(column[k]) << np.uint32(16)

    return widened if column.dtype == types.uint16 else same
