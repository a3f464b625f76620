"""RoIAlign compiled by numba. It runs on CPU tensors, where torchvision's backward pass is slow.

Levels are (B, H, W, C). The channels are innermost, so that they fill vector registers. Bilinear
sampling is separable: the neighbours and the weights of a box's samples are computed once along y
and once along x.

The forward pass is parallel over boxes. The backward pass is parallel over images (or blocks of
channels); each image adds up its gradient in the order of the boxes, so the result does not depend
on the number of threads.

numpy lacks bfloat16. Such values are passed as the uint16 of their bits, and sums are in float32.

r: boxes, C: channels, B: images, s: cells along a side of the output. ``levels``: a tuple of
levels. ``rois``: (r, 4), x1, y1, x2, y2 in cells of their level. ``image`` and ``level``: (r,),
the image and the level of each box.
"""

import numpy as np
from numba import prange, types
from numba.extending import overload

from postnms.ops.jit import contracted, contracted_parallel


@contracted_parallel
def forward(levels, rois, image, level, samples, pooled):  # pragma: no cover: compiled
    """Fill ``pooled`` (r, C, s, s) with means of ``samples`` x ``samples`` bilinear values."""
    channels = pooled.shape[1]
    cells = pooled.shape[2]
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
                        # One look-up of the four neighbours serves all channels.
                        top_left = plane[y_low[i], x_low[j]]
                        top_right = plane[y_low[i], x_high[j]]
                        bottom_left = plane[y_high[i], x_low[j]]
                        bottom_right = plane[y_high[i], x_high[j]]
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
    """Add to ``levels`` their gradient, from the ``gradients`` (r, C, s, s) of the output."""
    channels = gradients.shape[1]
    cells = gradients.shape[2]
    # Each thread owns whole images, so that no two threads add to one number.
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
                            top_left = plane[y_low[i], x_low[j]]
                            top_right = plane[y_low[i], x_high[j]]
                            bottom_left = plane[y_high[i], x_low[j]]
                            bottom_right = plane[y_high[i], x_high[j]]
                            for k in range(channels):
                                top_left[k] += a * cell[k]
                                top_right[k] += b * cell[k]
                                bottom_left[k] += c * cell[k]
                                bottom_right[k] += d * cell[k]


@contracted_parallel
def forward_around(levels, rois, image, level, pooled, covered):  # pragma: no cover: compiled
    """Fill ``pooled`` (r, s, s, 3, 3, C) with means of 2 x 2 bilinear values of nine shifted maps.

    Entry [..., dy, dx, :] is pooled from the level shifted by (dy - 1, dx - 1): at (y, x) the map
    holds the value of the level at (y + dy - 1, x + dx - 1), or 0 outside the level. ``covered``
    (r, s, s) receives the share of the samples that lie inside the map and therefore count.
    """
    cells = pooled.shape[1]
    channels = pooled.shape[5]
    for r in prange(len(rois)):
        plane = levels[level[r]][image[r]]
        height, width = plane.shape[:2]
        ones = np.ones(2 * cells, plane.dtype)
        y_place, y_weight = _four_taps(rois[r, 1], rois[r, 3], height, ones)
        x_place, x_weight = _four_taps(rois[r, 0], rois[r, 2], width, ones)
        covered[r] = np.outer(y_weight.sum(axis=1), x_weight.sum(axis=1))
        first, after, begin, end = _span(x_place, width)
        # The columns of the strip outside the level stay 0, the padding of the convolution.
        strip = np.zeros((after - first, channels), plane.dtype)
        cell = np.empty(channels, plane.dtype)
        inside = strip[begin - first : end - first].reshape(-1)
        lines = plane.reshape(height, -1)
        for dy in range(3):
            places, weights = _moved(y_place, y_weight, dy - 1, height)
            for p in range(cells):
                # The lines that a row of cells needs are mixed once for all of its columns.
                _mix(lines, places[p], 0, weights[p], begin * channels, inside)
                for q in range(cells):
                    for dx in range(3):
                        _mix(strip, x_place[q], dx - 1 - first, x_weight[q], 0, cell)
                        _store(cell, pooled[r, p, q, dy, dx])


@contracted_parallel
def backward_around(levels, rois, image, level, blocks, gradients):  # pragma: no cover: compiled
    """Add to ``levels`` their gradient, from the ``gradients`` of the output of ``forward_around``.

    ``gradients``: (r, s, s, 3, 3, C). ``blocks``: the number of blocks into which the channels are
    split, so that one image keeps several threads busy.
    """
    cells = gradients.shape[1]
    channels = gradients.shape[5]
    images = len(levels[0])
    # Each task owns one block of channels of one image, so that no two add to one number.
    for task in prange(blocks * images):
        owner = task % images
        block = task // images
        start = block * channels // blocks
        stop = (block + 1) * channels // blocks
        ones = np.ones(2 * cells, levels[0].dtype)
        cell = np.empty(stop - start, levels[0].dtype)
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
                    # First spread along x into the strip, then along y into the level.
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
    """Return positions and weights along an axis, each (s, 4), for two samples a cell.

    They belong to both neighbours of the first sample of a cell, then of the second one. The
    weights are halved, so that their sum over a cell gives a mean.
    """
    low, high, near, far = _taps(start, end, size, ones)
    weights = np.stack((near, far), axis=1).reshape(-1, 4) * (ones[0] / ones.dtype.type(2))
    return np.stack((low, high), axis=1).reshape(-1, 4), weights


@contracted
def _moved(places, weights, shift, size):  # pragma: no cover: compiled
    """Return positions and weights ``shift`` cells further on. Outside the map the weight is 0."""
    moved = places + shift
    inside = (moved >= 0) & (moved < size)
    return np.where(inside, moved, 0), np.where(inside, weights, weights.dtype.type(0))


@contracted
def _span(places, size):  # pragma: no cover: compiled
    """Return the half-open range of positions that the three shifts need, then its part in the map.

    The four numbers are: first, one after the last, and both limited to 0..``size``.
    """
    first = places[0, 0] - 1
    after = places[-1, -1] + 2
    return first, after, max(first, 0), min(after, size)


@contracted
def _mix(lines, places, shift, weights, offset, out):  # pragma: no cover: compiled
    """Fill ``out`` with the weighted sum of four ``lines``, each read from ``offset`` on.

    The numbers of the lines are ``places`` + ``shift``.
    """
    end = offset + len(out)
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    first = lines[places[0] + shift][offset:end]
    second = lines[places[1] + shift][offset:end]
    third = lines[places[2] + shift][offset:end]
    fourth = lines[places[3] + shift][offset:end]
    for k in range(len(out)):
        out[k] = a * first[k] + b * second[k] + c * third[k] + d * fourth[k]


@contracted
def _add(weight, values, out):  # pragma: no cover: compiled
    """Add ``weight`` times ``values`` to ``out``."""
    for k in range(len(out)):
        out[k] += weight * values[k]


@contracted
def _taps(start, end, size, ones):  # pragma: no cover: compiled
    """Return the two neighbouring cells of each sample, and their weights: four arrays.

    There are len(ones) samples, evenly spread from ``start`` to ``end``. A side shorter than one
    cell counts as one cell long. Both weights of a sample that is more than a cell outside the map
    are 0. ``ones`` gives the dtype, because a plain 1 would promote everything to float64.
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
        # Samples up to one cell outside take the value at the border, as in torchvision.
        if -1.0 <= exact <= size:
            far[i] = position - low[i]
            near[i] = ones[0] - far[i]
    return low, high, near, far


def _store(cell, column):
    """Copy the channels of a cell to a column of the output.

    A column of uint16 holds the bits of bfloat16, rounded to nearest, ties to even. This body is
    empty, since only compiled code calls it.
    """


@overload(_store)
def _compiled_store(cell, column):
    def same(cell, column):
        # One assignment of the whole array would check for overlaps, which takes longer than the
        # sums do.
        for k in range(len(cell)):
            column[k] = cell[k]

    def rounded(cell, column):
        # The low half of the bits is dropped. An odd high half makes a tie round up.
        bits = cell.view(np.uint32)
        for k in range(len(cell)):
            odd = (bits[k] >> np.uint32(16)) & np.uint32(1)
            column[k] = (bits[k] + np.uint32(0x7FFF) + odd) >> np.uint32(16)

    return rounded if column.dtype == types.uint16 else same


def _load(column, cell):
    """Copy the channels of a cell from a column of the same dtype, or of the bits of bfloat16.

    It is the inverse of :func:`_store`, and its body is empty for the same reason.
    """


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
