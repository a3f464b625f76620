"""RoIAlign compiled by numba: levels (B, H, W, C) with the channels innermost, pooled (r, C, s, s).

Bilinear sampling is separable: the neighbours and weights of the samples of a box are found once along y and once
along x. Threads may share the rows on the way forward and the images on the way back, where each image's gradient is
added up in the order of the boxes: the result does not depend on their number.
"""

import numpy as np
from numba import njit

_compiled = njit(cache=True, nogil=True, fastmath={"contract"})


@_compiled
def forward(levels, rois, image, level, samples, pooled, first, last):  # pragma: no cover: compiled
    """Fill rows ``first`` to ``last`` of ``pooled`` (r, C, s, s) with means of samples x samples bilinear values.

    ``rois``: (r, 4) in cells of their level; ``image``, ``level``: (r,).
    """
    channels, cells = pooled.shape[1], pooled.shape[2]
    ones = np.ones(cells * samples, levels[0].dtype)
    share = ones[0] / ones.dtype.type(samples * samples)
    cell = np.empty(channels, levels[0].dtype)
    for r in range(first, last):
        plane = levels[level[r]][image[r]]
        y_low, y_high, y_near, y_far = _taps(rois[r, 1], rois[r, 3], plane.shape[0], ones)
        x_low, x_high, x_near, x_far = _taps(rois[r, 0], rois[r, 2], plane.shape[1], ones)
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
                pooled[r, :, p, q] = cell


@_compiled
def backward(levels, rois, image, level, samples, gradients, first, last):  # pragma: no cover: compiled
    """Add to ``levels`` what the ``gradients`` (r, C, s, s) of rois on the images ``first`` to ``last`` give."""
    channels, cells = gradients.shape[1], gradients.shape[2]
    ones = np.ones(cells * samples, gradients.dtype)
    share = ones[0] / ones.dtype.type(samples * samples)
    cell = np.empty(channels, gradients.dtype)
    for r in range(len(rois)):
        if not first <= image[r] < last:
            continue
        plane = levels[level[r]][image[r]]
        y_low, y_high, y_near, y_far = _taps(rois[r, 1], rois[r, 3], plane.shape[0], ones)
        x_low, x_high, x_near, x_far = _taps(rois[r, 0], rois[r, 2], plane.shape[1], ones)
        for p in range(cells):
            for q in range(cells):
                cell[:] = gradients[r, :, p, q]
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
