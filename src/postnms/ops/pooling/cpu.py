"""RoIAlign compiled by numba: levels (B, H, W, C) with the channels innermost.

Bilinear sampling is separable: the neighbours and weights of the samples of a box are found once along y and once
along x. Threads share the rows on the way forward and the images, or parts of their channels, on the way back, where
each image's gradient is added up in the order of the boxes: the result does not depend on their number. bfloat16,
which numpy lacks, comes and goes as the uint16 of its bits, with sums in float32.

r: boxes, s: cells along a side of the output; ``rois``: (r, 4) in cells of their level; ``image``, ``level``: (r,).
"""

import numpy as np
from numba import prange, types
from numba.extending import overload

from postnms.ops.jit import contracted, contracted_parallel


@contracted_parallel
def forward(levels, rois, image, level, samples, pooled):  # pragma: no cover: compiled
    """Fill ``pooled`` (r, C, s, s) with means of samples x samples bilinear values."""
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
                        bottom_left, bottom_right = (
                            plane[y_high[i], x_low[j]],
                            plane[y_high[i], x_high[j]],
                        )
                        for k in range(channels):
                            cell[k] += (
                                a * top_left[k]
                                + b * top_right[k]
                                + c * bottom_left[k]
                                + d * bottom_right[k]
                            )
                _store(cell, pooled[r, :, p, q])


@contracted_parallel
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
                            top_left, top_right = (
                                plane[y_low[i], x_low[j]],
                                plane[y_low[i], x_high[j]],
                            )
                            bottom_left, bottom_right = (
                                plane[y_high[i], x_low[j]],
                                plane[y_high[i], x_high[j]],
                            )
                            for k in range(channels):
                                top_left[k] += a * cell[k]
                                top_right[k] += b * cell[k]
                                bottom_left[k] += c * cell[k]
                                bottom_right[k] += d * cell[k]


@contracted_parallel
def forward_around(levels, rois, image, level, pooled, covered):  # pragma: no cover: compiled
    """Fill ``pooled`` (r, s, s, 3, 3, C) with means of 2 x 2 bilinear values of the map moved by a cell each way.

    [..., dy, dx, :] is of the map that holds at (y, x) what the level has at (y + dy - 1, x + dx - 1), 0 outside.
    ``covered`` (r, s, s) gets the share of the samples that count. The lines of the level that a row of cells needs
    are mixed into a strip first, once for all its columns.
    """
    cells, channels = pooled.shape[1], pooled.shape[5]
    for r in prange(len(rois)):
        plane = levels[level[r]][image[r]]
        height, width = plane.shape[:2]
        ones = np.ones(2 * cells, plane.dtype)
        y_place, y_weight = _four_taps(rois[r, 1], rois[r, 3], height, ones)
        x_place, x_weight = _four_taps(rois[r, 0], rois[r, 2], width, ones)
        covered[r] = np.outer(y_weight.sum(axis=1), x_weight.sum(axis=1))
        first, after, begin, end = _span(x_place, width)
        strip, cell = (
            np.zeros((after - first, channels), plane.dtype),
            np.empty(channels, plane.dtype),
        )
        inside, lines = strip[begin - first : end - first].reshape(-1), plane.reshape(height, -1)
        for dy in range(3):
            places, weights = _moved(y_place, y_weight, dy - 1, height)
            for p in range(cells):
                _mix(lines, places[p], 0, weights[p], begin * channels, inside)
                for q in range(cells):
                    for dx in range(3):
                        _mix(strip, x_place[q], dx - 1 - first, x_weight[q], 0, cell)
                        _store(cell, pooled[r, p, q, dy, dx])


@contracted_parallel
def backward_around(levels, rois, image, level, parts, gradients):  # pragma: no cover: compiled
    """Add to ``levels`` what the ``gradients`` (r, s, s, 3, 3, C) of ``forward_around`` give.

    ``parts``: into which the channels are split, so that one image keeps several threads busy.
    """
    cells, channels = gradients.shape[1], gradients.shape[5]
    images = len(levels[0])
    for task in prange(parts * images):
        owner, part = task % images, task // images
        start, stop = part * channels // parts, (part + 1) * channels // parts
        ones, cell = np.ones(2 * cells, levels[0].dtype), np.empty(stop - start, levels[0].dtype)
        for r in range(len(rois)):
            if image[r] != owner:
                continue
            plane = levels[level[r]][owner]
            height, width = plane.shape[:2]
            y_place, y_weight = _four_taps(rois[r, 1], rois[r, 3], height, ones)
            x_place, x_weight = _four_taps(rois[r, 0], rois[r, 2], width, ones)
            first, after, begin, end = _span(x_place, width)
            strip = np.empty((after - first, stop - start), plane.dtype)
            for dy in range(3):
                places, weights = _moved(y_place, y_weight, dy - 1, height)
                for p in range(cells):
                    strip[:] = 0
                    for q in range(cells):
                        for dx in range(3):
                            _load(gradients[r, p, q, dy, dx, start:stop], cell)
                            for i in range(4):
                                _add(x_weight[q, i], cell, strip[x_place[q, i] + dx - 1 - first])
                    for i in range(4):
                        for x in range(begin, end):
                            _add(
                                weights[p, i], strip[x - first], plane[places[p, i], x, start:stop]
                            )


@contracted
def _four_taps(start, end, size, ones):  # pragma: no cover: compiled
    """(s, 4) places and weights along an axis: both neighbours of both samples of each cell."""
    low, high, near, far = _taps(start, end, size, ones)
    weights = np.stack((near, far), axis=1).reshape(-1, 4) * (ones[0] / ones.dtype.type(2))
    return np.stack((low, high), axis=1).reshape(-1, 4), weights


@contracted
def _moved(places, weights, shift, size):  # pragma: no cover: compiled
    """The same so many cells further on, where a place outside has no weight."""
    moved = places + shift
    inside = (moved >= 0) & (moved < size)
    return np.where(inside, moved, 0), np.where(inside, weights, weights.dtype.type(0))


@contracted
def _span(places, size):  # pragma: no cover: compiled
    """First place that is needed with a cell more on each side, and the one after the last; then both inside."""
    first, after = places[0, 0] - 1, places[-1, -1] + 2
    return first, after, max(first, 0), min(after, size)


@contracted
def _mix(lines, places, shift, weights, offset, out):  # pragma: no cover: compiled
    """out = the sum of four ``lines``, at places + shift and from ``offset`` on, times their weights."""
    end = offset + len(out)
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    first, second = lines[places[0] + shift][offset:end], lines[places[1] + shift][offset:end]
    third, fourth = lines[places[2] + shift][offset:end], lines[places[3] + shift][offset:end]
    for k in range(len(out)):
        out[k] = a * first[k] + b * second[k] + c * third[k] + d * fourth[k]


@contracted
def _add(weight, values, out):  # pragma: no cover: compiled
    for k in range(len(out)):
        out[k] += weight * values[k]


@contracted
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
        for k in range(
            len(cell)
        ):  # an assignment of the whole looks for overlaps, and takes longer than the sum
            column[k] = cell[k]

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
        for k in range(len(cell)):
            cell[k] = column[k]

    def widened(column, cell):
        bits = cell.view(np.uint32)
        for k in range(len(cell)):
            bits[k] = np.uint32(column[k]) << np.uint32(16)

    return widened if column.dtype == types.uint16 else same
