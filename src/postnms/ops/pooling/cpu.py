"""RoIAlign compiled by numba. It runs on CPU tensors, where torchvision's backward pass is slow.

Levels are (B, H, W, C). The channels are innermost, so that they fill vector registers. Bilinear
sampling is separable: the neighbours and the weights of a box's samples are computed once along y
and once along x.

Threads may share the boxes of the forward pass, and the images (or blocks of channels of an image)
of the backward pass. A kernel therefore takes a range of them, first and one after the last, and no
two ranges write to one number. Each image adds up its gradient in the order of the boxes, so the
result does not depend on the number of threads.

numpy lacks bfloat16. Such values are passed as the uint16 of their bits, and sums are in float32.

r: boxes, C: channels, B: images, s: cells along a side of the output. ``levels``: a tuple of
levels. ``rois``: (r, 4), x1, y1, x2, y2 in cells of their level. ``image`` and ``level``: (r,),
the image and the level of each box. ``rows``: a range of boxes.
"""

import numpy as np

from postnms.ops.jit import contracted, contracted_inlined, exact
from postnms.ops.pooling.bfloat16 import load, store

PADDING = 16
"""Unused numbers behind the channels of each pooled cell of the box in work.

Without them, the cells of a box with 256 channels would compete for a few places of the cache when
the box is copied to or from the output, in which the channels are outermost.
"""


@exact
def is_sound(boxes, image, images):  # pragma: no cover: compiled
    """Tell whether boxes are finite with x1 <= x2 and y1 <= y2, and images are 0..``images``-1."""
    sound = True
    for r in range(len(boxes)):
        left, top, right, bottom = boxes[r]
        # A comparison with NaN is false.
        sound &= (left > -np.inf) & (right >= left) & (right < np.inf)
        sound &= (top > -np.inf) & (bottom >= top) & (bottom < np.inf)
        sound &= (image[r] >= 0) & (image[r] < images)
    return sound


@contracted
def forward(levels, rois, image, level, samples, pooled, rows):  # pragma: no cover: compiled
    """Fill ``pooled`` (r, C, s, s) with means of ``samples`` x ``samples`` bilinear values."""
    channels = pooled.shape[1]
    cells = pooled.shape[2]
    ones = np.ones(cells * samples, levels[0].dtype)
    share = ones[0] / ones.dtype.type(samples * samples)
    block = np.empty((cells * cells, channels + PADDING), ones.dtype)
    for r in range(rows[0], rows[1]):
        plane = levels[level[r]][image[r]]
        y_low, y_high, y_near, y_far = _taps(rois[r, 1], rois[r, 3], plane.shape[0], ones)
        x_low, x_high, x_near, x_far = _taps(rois[r, 0], rois[r, 2], plane.shape[1], ones)
        for p in range(cells):
            for q in range(cells):
                cell = block[p * cells + q]
                for k in range(channels):
                    cell[k] = 0
                for i in range(p * samples, (p + 1) * samples):
                    for j in range(q * samples, (q + 1) * samples):
                        a = y_near[i] * x_near[j] * share
                        b = y_near[i] * x_far[j] * share
                        c = y_far[i] * x_near[j] * share
                        d = y_far[i] * x_far[j] * share
                        top, bottom = np.uint64(y_low[i]), np.uint64(y_high[i])
                        left, right = np.uint64(x_low[j]), np.uint64(x_high[j])
                        # One look-up of the four neighbours serves all channels.
                        for k in range(channels):
                            cell[k] += (
                                a * plane[top, left, k]
                                + b * plane[top, right, k]
                                + c * plane[bottom, left, k]
                                + d * plane[bottom, right, k]
                            )
        store(block[:, :channels].T, pooled[r].reshape(channels, -1))


@contracted
def backward(levels, rois, image, level, samples, gradients, images):  # pragma: no cover: compiled
    """Add to ``levels`` their gradient, from the ``gradients`` (r, C, s, s) of the output.

    ``images``: the range of images that receive theirs.
    """
    channels = gradients.shape[1]
    cells = gradients.shape[2]
    ones = np.ones(cells * samples, levels[0].dtype)
    share = ones[0] / ones.dtype.type(samples * samples)
    block = np.empty((cells * cells, channels + PADDING), ones.dtype)
    for owner in range(images[0], images[1]):
        for r in range(len(rois)):
            if image[r] != owner:
                continue
            plane = levels[level[r]][owner]
            y_low, y_high, y_near, y_far = _taps(rois[r, 1], rois[r, 3], plane.shape[0], ones)
            x_low, x_high, x_near, x_far = _taps(rois[r, 0], rois[r, 2], plane.shape[1], ones)
            load(gradients[r].reshape(channels, -1), block[:, :channels].T)
            for p in range(cells):
                for q in range(cells):
                    cell = block[p * cells + q]
                    for i in range(p * samples, (p + 1) * samples):
                        for j in range(q * samples, (q + 1) * samples):
                            a = y_near[i] * x_near[j] * share
                            b = y_near[i] * x_far[j] * share
                            c = y_far[i] * x_near[j] * share
                            d = y_far[i] * x_far[j] * share
                            top, bottom = np.uint64(y_low[i]), np.uint64(y_high[i])
                            left, right = np.uint64(x_low[j]), np.uint64(x_high[j])
                            for k in range(channels):
                                plane[top, left, k] += a * cell[k]
                                plane[top, right, k] += b * cell[k]
                                plane[bottom, left, k] += c * cell[k]
                                plane[bottom, right, k] += d * cell[k]


@contracted
def forward_around(levels, rois, image, level, pooled, covered, rows):  # pragma: no cover: compiled
    """Fill ``pooled`` (r, s, s, 3, 3, C) with means of 2 x 2 bilinear values of nine shifted maps.

    Entry [..., dy, dx, :] is pooled from the level shifted by (dy - 1, dx - 1): at (y, x) the map
    holds the value of the level at (y + dy - 1, x + dx - 1), or 0 outside the level. ``covered``
    (r, s, s) receives the share of the samples that lie inside the map and therefore count.
    """
    cells = pooled.shape[1]
    channels = pooled.shape[5]
    for r in range(rows[0], rows[1]):
        plane = levels[level[r]][image[r]]
        height, width = plane.shape[:2]
        ones = np.ones(2 * cells, plane.dtype)
        y_place, y_weight = _four_taps(rois[r, 1], rois[r, 3], height, ones)
        x_place, x_weight = _four_taps(rois[r, 0], rois[r, 2], width, ones)
        for p in range(cells):
            for q in range(cells):
                covered[r, p, q] = _sum(y_weight[p]) * _sum(x_weight[q])
        first, after, begin, end = _span(x_place, width)
        # The columns of the strip outside the level stay 0, the padding of the convolution.
        strip = np.zeros((after - first, channels), plane.dtype)
        three = np.empty((3, channels), plane.dtype)
        inside = strip[begin - first : end - first].reshape(-1)
        lines = plane.reshape(height, -1)
        for dy in range(3):
            places, weights = _moved(y_place, y_weight, dy - 1, height)
            for p in range(cells):
                # The lines that a row of cells needs are mixed once for all of its columns.
                _mix(lines, places[p], 0, weights[p], begin * channels, inside)
                for q in range(cells):
                    for dx in range(3):
                        _mix(strip, x_place[q], dx - 1 - first, x_weight[q], 0, three[dx])
                    store(three, pooled[r, p, q, dy])


@contracted
def backward_around(
    levels, rois, image, level, blocks, gradients, tasks
):  # pragma: no cover: compiled
    """Add to ``levels`` their gradient, from the ``gradients`` of the output of ``forward_around``.

    ``gradients``: (r, s, s, 3, 3, C). ``blocks``: the number of blocks into which the channels are
    split, so that one image keeps several threads busy. ``tasks``: a range of numbers below
    ``blocks`` * B, each of which stands for one block of channels of one image.
    """
    cells = gradients.shape[1]
    channels = gradients.shape[5]
    images = len(levels[0])
    for task in range(tasks[0], tasks[1]):
        owner = task % images
        block = task // images
        start = block * channels // blocks
        stop = (block + 1) * channels // blocks
        ones = np.ones(2 * cells, levels[0].dtype)
        three = np.empty((3, stop - start), levels[0].dtype)
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
                        load(gradients[r, p, q, dy, :, start:stop], three)
                        for dx in range(3):
                            for i in range(4):
                                place = x_place[q, i] + dx - 1 - first
                                _add(x_weight[q, i], three[dx], strip[place])
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
    places = np.empty((len(ones) // 2, 4), np.int64)
    weights = np.empty((len(ones) // 2, 4), ones.dtype)
    half = ones[0] / ones.dtype.type(2)
    for i in range(len(ones)):
        cell, place = i // 2, 2 * (i % 2)
        places[cell, place], places[cell, place + 1] = low[i], high[i]
        weights[cell, place], weights[cell, place + 1] = near[i] * half, far[i] * half
    return places, weights


@contracted
def _moved(places, weights, shift, size):  # pragma: no cover: compiled
    """Return positions and weights ``shift`` cells further on. Outside the map the weight is 0."""
    moved, kept = np.zeros_like(places), np.zeros_like(weights)
    for p in range(len(places)):
        for i in range(4):
            place = places[p, i] + shift
            if 0 <= place < size:
                moved[p, i], kept[p, i] = place, weights[p, i]
    return moved, kept


@contracted_inlined
def _sum(weights):  # pragma: no cover: compiled
    """Return the sum of four weights, in the dtype of the weights."""
    return weights[0] + weights[1] + weights[2] + weights[3]


@contracted
def _span(places, size):  # pragma: no cover: compiled
    """Return the half-open range of positions that the three shifts need, then its part in the map.

    The four numbers are: first, one after the last, and both limited to 0..``size``.
    """
    first = places[0, 0] - 1
    after = places[-1, -1] + 2
    return first, after, max(first, 0), min(after, size)


@contracted_inlined
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


@contracted_inlined
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
