"""RoIAlign compiled by numba, channels innermost: (B, H, W, C) features, (r, s, s, C) pooled.

Bilinear sampling is separable: the neighbours and weights of the samples of a box are found once along y and once
along x. The backward pass adds in the order of the boxes, so that it is deterministic.
"""

import numpy as np
from numba import njit

_compiled = njit(cache=True, nogil=True, fastmath={"contract"})


@_compiled
def forward(features, rois, image, cells, samples):  # pragma: no cover: compiled
    """Mean of samples x samples bilinear values in each of the cells x cells cells of each roi (level cells)."""
    channels = features.shape[3]
    ones = np.ones(cells * samples, features.dtype)
    pooled = np.zeros((len(rois), cells, cells, channels), features.dtype)
    for r in range(len(rois)):
        plane = features[image[r]]
        y_low, y_high, y_near, y_far = _taps(rois[r, 1], rois[r, 3], plane.shape[0], ones)
        x_low, x_high, x_near, x_far = _taps(rois[r, 0], rois[r, 2], plane.shape[1], ones)
        share = ones[0] / ones.dtype.type(samples * samples)
        for i in range(cells * samples):
            for j in range(cells * samples):
                out = pooled[r, i // samples, j // samples]
                a = y_near[i] * x_near[j] * share
                b = y_near[i] * x_far[j] * share
                c = y_far[i] * x_near[j] * share
                d = y_far[i] * x_far[j] * share
                top_left, top_right = plane[y_low[i], x_low[j]], plane[y_low[i], x_high[j]]
                bottom_left, bottom_right = plane[y_high[i], x_low[j]], plane[y_high[i], x_high[j]]
                for k in range(channels):
                    out[k] += a * top_left[k] + b * top_right[k] + c * bottom_left[k] + d * bottom_right[k]
    return pooled


@_compiled
def backward(gradients, rois, image, cells, samples, out):  # pragma: no cover: compiled
    """Add the gradient of the features to ``out`` (B, H, W, C)."""
    channels = out.shape[3]
    ones = np.ones(cells * samples, out.dtype)
    for r in range(len(rois)):
        plane = out[image[r]]
        y_low, y_high, y_near, y_far = _taps(rois[r, 1], rois[r, 3], plane.shape[0], ones)
        x_low, x_high, x_near, x_far = _taps(rois[r, 0], rois[r, 2], plane.shape[1], ones)
        share = ones[0] / ones.dtype.type(samples * samples)
        for i in range(cells * samples):
            for j in range(cells * samples):
                gradient = gradients[r, i // samples, j // samples]
                a = y_near[i] * x_near[j] * share
                b = y_near[i] * x_far[j] * share
                c = y_far[i] * x_near[j] * share
                d = y_far[i] * x_far[j] * share
                top_left, top_right = plane[y_low[i], x_low[j]], plane[y_low[i], x_high[j]]
                bottom_left, bottom_right = plane[y_high[i], x_low[j]], plane[y_high[i], x_high[j]]
                for k in range(channels):
                    top_left[k] += a * gradient[k]
                    top_right[k] += b * gradient[k]
                    bottom_left[k] += c * gradient[k]
                    bottom_right[k] += d * gradient[k]


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
