"""Precise RoI pooling compiled by numba, for CPU tensors that need no gradient.

The torch version copies a window of the map for each box. Here a box is reduced where it lies:
first along y, a whole line of the window at a time, and then along x.

numpy lacks bfloat16. Such values are passed as the uint16 of their bits, and sums are in float32.

r: boxes, C: channels, B: images, s: cells along a side of the output, L: cells of the map that a
box lies in, along one axis.
"""

import numpy as np

from postnms.ops.jit import contracted, contracted_inlined
from postnms.ops.pooling.bfloat16 import store


@contracted
def forward(levels, rois, image, level, pooled, rows):  # pragma: no cover: compiled
    """Fill ``pooled`` (r, C, s, s) with exact means, for the boxes of the range ``rows``.

    ``levels``: a tuple of levels (B, H, W, C). ``rois``: (r, 4), x1, y1, x2, y2 in cells of their
    level. ``image`` and ``level``: (r,), the image and the level of each box.
    """
    channels = pooled.shape[1]
    cells = pooled.shape[2]
    ones = np.ones(1, levels[0].dtype)
    block = np.empty((cells * cells, channels), ones.dtype)
    for r in range(rows[0], rows[1]):
        plane = levels[level[r]][image[r]]
        top, y_shares = _shares(rois[r, 1], rois[r, 3], plane.shape[0], cells, ones)
        left, x_shares = _shares(rois[r, 0], rois[r, 2], plane.shape[1], cells, ones)
        line = np.empty((x_shares.shape[1], channels), ones.dtype)
        flat = line.reshape(-1)
        for p in range(cells):
            flat[:] = 0
            for i in range(y_shares.shape[1]):
                share = y_shares[p, i]
                if share != 0:
                    row = plane[top + i, left : left + len(line)].reshape(-1)
                    for k in range(len(flat)):
                        flat[k] += share * row[k]
            for q in range(cells):
                cell = block[p * cells + q]
                cell[:] = 0
                for j in range(len(line)):
                    share = x_shares[q, j]
                    if share != 0:
                        for k in range(channels):
                            cell[k] += share * line[j, k]
        store(block.T, pooled[r].reshape(channels, -1))


@contracted
def _shares(low, high, size, cells, ones):  # pragma: no cover: compiled
    """Return what each cell of the map adds to the mean over each output cell, along one axis.

    Args:
        low: the first edge of the box, in cells of the map.
        high: the last edge.
        size: number of cells of the map.
        cells: number of output cells s.
        ones: an array of the dtype of the sums.

    Returns:
        The first cell of the map that the box has a share of, and the shares (s, L).
    """
    first = int(min(max(np.floor(low), 0), size - 1))
    last = int(min(max(np.ceil(high), 0), size - 1))
    shares = np.zeros((cells, last - first + 1), ones.dtype)
    width = (high - low) / cells
    if width > 0:
        for p in range(cells):
            begin = low + p * width
            for i in range(last - first + 1):
                place = first + i
                part = _integral(begin + width - place) - _integral(begin - place)
                shares[p, i] = part / width
    return first, shares


@contracted_inlined
def _integral(at):  # pragma: no cover: compiled
    """Return the integral of the triangle max(0, 1 - |t|) from its left end to ``at``."""
    at = min(max(at, -1.0), 1.0)
    return 0.5 + at - 0.5 * at * abs(at)
