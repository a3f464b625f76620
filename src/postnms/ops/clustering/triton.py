"""``cluster_nms`` in Triton kernels. It runs on CUDA tensors, where it keeps all work on the GPU.

These kernels have never run on a GPU. They have run in Triton's interpreter, and they have been
compiled for CUDA.

Candidates are ordered by group, then by falling score, then by index. A candidate's position in
this order is its row. The rows are taken in blocks of ``BLOCK``, and a block needs three launches:

1. ``_compare`` finds the overlaps within the block. For each row it writes which better rows of
   the block overlap it: one bit for each better row, one 64-bit word for each tile of 64 rows.
   Pairs of tiles without a common group are skipped.
2. ``_settle`` finds the owners within the block. One program runs for each tile in which a group
   begins, and it walks through the tiles of the groups that begin there. The keys of a tile are the
   fixed point of Cluster-NMS (arXiv 2005.03572) on the words of the tile itself. The owner of a row
   is the first key whose bit is set in the words of the row.
3. ``_claim`` finds owners, among the keys of the block, for the later rows that have none. Only
   the last group of the block continues there. Programs beyond its end stop at once.

The host waits for the GPU once, at the end, for the number of keys. The memory is
O(n + BLOCK ** 2 / 64). Every operation is rounded as in ``reference``: products and sums are not
fused, and the division is rounded correctly. Before Triton 3.6 the division replaces subnormal
numbers by 0, which changes only areas and IoUs below 1e-37.

n: candidates.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from postnms.ops.triton_boxes import corners, iou

BLOCK = 4096
"""Number of rows that are settled together, a multiple of 64."""

CLAIMERS = 1024
"""Largest number of programs that share the rows behind a block."""

TILE = tl.constexpr(64)
"""Number of rows of a tile: the bits of a word."""

NONE = tl.constexpr(2**30)
"""Number of a bit that does not exist, larger than that of any bit."""

LAUNCH: dict[str, Any] = {"num_warps": 8, "enable_fp_fusion": False}
"""Options of every launch. A fused product and sum would be rounded once instead of twice."""


def cluster_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """Return keys and assignment as :func:`postnms.ops.cluster_nms` defines them."""
    by_score = torch.argsort(scores, descending=True, stable=True)
    order = by_score[torch.argsort(groups[by_score], stable=True)]
    # A tensor, because Triton rounds a Python float to float32.
    threshold = torch.full((1,), iou_threshold, dtype=boxes.dtype, device=boxes.device)
    with torch.cuda.device_of(boxes):
        owner = _owners(boxes[order].T.contiguous(), groups[order], threshold)
    key = torch.empty_like(order)
    # From rows to candidate indices: the key of each candidate.
    key[order] = order[owner]
    # A candidate is a key if it owns itself. Keys are numbered by score over all groups.
    kept = key[by_score] == by_score
    position = torch.empty_like(order)
    position[by_score] = kept.cumsum(0) - 1
    return by_score[kept], position[key]


def _owners(columns: Tensor, groups: Tensor, threshold: Tensor) -> Tensor:
    """Return the row of the key of each row: (n,) int64.

    ``columns`` (4, n): x1, y1, x2 and y2 of each row. ``groups`` (n,) int64, in rising order.
    ``threshold``: (1,) in the dtype of the columns.
    """
    n = len(groups)
    owner = torch.full_like(groups, -1)
    tiles = triton.cdiv(min(n, BLOCK), TILE.value)
    width: Any = triton.next_power_of_2(tiles)
    words = torch.empty(tiles * width * TILE.value, dtype=torch.int64, device=groups.device)
    keys = torch.empty(tiles * TILE.value, dtype=torch.int64, device=groups.device)
    count = torch.empty(1, dtype=torch.int32, device=groups.device)
    for begin in range(0, n, BLOCK):
        end = min(begin + BLOCK, n)
        tiles = triton.cdiv(end - begin, TILE.value)
        _compare[(tiles, tiles)](columns, groups, threshold, words, begin, end, n, width, **LAUNCH)
        _settle[(tiles,)](groups, words, owner, keys, count, begin, end, width, **LAUNCH)
        if end < n:
            claimers = min(triton.cdiv(n - end, TILE.value), CLAIMERS)
            _claim[(claimers,)](columns, groups, threshold, owner, keys, count, end, n, **LAUNCH)
    return owner


@triton.jit(do_not_specialize=["begin", "end", "n"])
def _compare(columns, groups, threshold, words, begin, end, n, width: tl.constexpr):
    """Fill ``words[tile, better, row]``: which rows of tile ``better`` overlap a row of ``tile``.

    Only better rows of the same group count. Words of tiles without a common group stay unwritten.
    """
    tile = tl.program_id(0)
    better = tl.program_id(1)
    lane = tl.arange(0, TILE)
    rows = begin + tile * TILE + lane
    others = begin + better * TILE + lane
    # Groups are sorted. Two tiles have a common group exactly if the better tile ends with the
    # group with which the other one begins.
    ends = tl.load(groups + begin + better * TILE + TILE - 1, mask=better < tile, other=-1)
    if (better == tile) | (ends == tl.load(groups + begin + tile * TILE)):
        row_corners = corners(columns, n, rows, rows < end)
        over = _is_over(row_corners, corners(columns, n, others, others < end), tl.load(threshold))
        row_groups = tl.load(groups + rows, mask=rows < end, other=-1)
        over &= (
            row_groups[:, None] == tl.load(groups + others, mask=others < end, other=-1)[None, :]
        )
        over &= others[None, :] < rows[:, None]
        bits = tl.where(over, _bits(lane)[None, :], 0)
        tl.store(words + (tile * width + better) * TILE + lane, tl.sum(bits, axis=1))


@triton.jit(do_not_specialize=["begin", "end"])
def _settle(groups, words, owner, keys, count, begin, end, width: tl.constexpr):
    """Fill ``owner`` in the block for the groups that begin in one tile.

    A group that continues from the block before begins, for this block, in its first tile.
    The program whose groups include the last one of the block also lists the keys of that group
    in ``keys``, in order, and writes their number to ``count``.
    """
    first = tl.program_id(0)
    lane = tl.arange(0, TILE)
    tiles = tl.arange(0, width)
    starts = begin + tiles * TILE
    before = tl.load(groups + begin + first * TILE - 1, mask=first > 0, other=-1)
    last = tl.load(groups + tl.minimum(begin + first * TILE + TILE, end) - 1)
    reached = (tiles > first) & (tl.load(groups + starts, mask=starts < end, other=-1) == last)
    # No tile at all, if no group begins in this one.
    stop = tl.where(before < last, first + 1 + tl.sum(reached.to(tl.int32)), first)
    kept = tl.zeros([width], tl.int64)
    listed_keys = tl.zeros([], tl.int32)
    for tile in range(first, stop):
        rows = begin + tile * TILE + lane
        group = tl.load(groups + rows, mask=rows < end, other=-1)
        free = (
            (group > before)
            & (group <= last)
            & (tl.load(owner + rows, mask=rows < end, other=0) < 0)
        )
        tile_words = words + tile * width * TILE + lane
        written = (tiles >= first) & (tiles <= tile)
        better = tl.load(
            tile_words[None, :] + tiles[:, None] * TILE, mask=written[:, None], other=0
        )
        # Keys of earlier tiles come first. Rows that they do not overlap are settled in the tile.
        alive = free & (tl.max(((better & kept[:, None]) != 0).to(tl.int32), axis=0) == 0)
        kept = tl.where(
            tiles == tile, _fixed_point(alive, tl.load(tile_words + tile * TILE), _bits(lane)), kept
        )
        first_key = _first_key(better & kept[:, None], tiles)
        is_key = free & (first_key == NONE)
        # Several threads hold a row. All must have read its owner before one of them writes it.
        tl.debug_barrier()
        tl.store(owner + rows, tl.where(is_key, rows, begin + first_key), mask=free)
        listed = (is_key & (group == tl.load(groups + end - 1))).to(tl.int32)
        tl.store(keys + listed_keys + tl.cumsum(listed, axis=0) - 1, rows, mask=listed > 0)
        listed_keys += tl.sum(listed)
    # The last group begins in one tile, so that only one program lists keys.
    tl.store(count, listed_keys, mask=(before < last) & (last == tl.load(groups + end - 1)))


@triton.jit(do_not_specialize=["begin", "n"])
def _claim(columns, groups, threshold, owner, keys, count, begin, n):
    """Fill ``owner`` from the listed keys, for rows behind the block.

    These are the rows without an owner from ``begin``, the end of the block, to the end of the
    group that continues there.
    """
    group = tl.load(groups + begin - 1)
    listed = tl.load(count)
    limit = tl.load(threshold)
    start = begin + tl.program_id(0) * TILE
    while tl.load(groups + start, mask=start < n, other=-1) == group:
        rows = start + tl.arange(0, TILE)
        free = tl.load(groups + rows, mask=rows < n, other=-1) == group
        free &= tl.load(owner + rows, mask=rows < n, other=0) < 0
        row_corners = corners(columns, n, rows, free)
        nearest = tl.where(free, listed, -1)
        passed = 0
        # Stop as soon as every free row has a key: later keys come later in the order.
        while (passed < listed) & (tl.max(nearest) == listed):
            position = passed + tl.arange(0, TILE)
            key_rows = tl.load(keys + position, mask=position < listed, other=0)
            over = _is_over(row_corners, corners(columns, n, key_rows, position < listed), limit)
            nearest = tl.minimum(nearest, tl.min(tl.where(over, position[None, :], listed), axis=1))
            passed += TILE
        claimed = free & (nearest < listed)
        # The same barrier as in _settle.
        tl.debug_barrier()
        tl.store(owner + rows, tl.load(keys + nearest, mask=claimed, other=0), mask=claimed)
        start += tl.num_programs(0) * TILE


@triton.jit
def _is_over(rows, others, threshold):
    """Tell for each box of ``rows`` (down) and of ``others`` (across) if IoU > ``threshold``."""
    left, top, right, bottom = rows
    other_left, other_top, other_right, other_bottom = others
    down = (left[:, None], top[:, None], right[:, None], bottom[:, None])
    across = (other_left[None, :], other_top[None, :], other_right[None, :], other_bottom[None, :])
    return iou(down, across) > threshold


@triton.jit
def _bits(lane):
    """Return a word for each lane in which only the bit of that lane is set."""
    return tl.full([TILE], 1, tl.int64) << lane.to(tl.int64)


@triton.jit
def _fixed_point(alive, overlaps, bits):
    """Return a word whose bits are the rows of a tile that greedy NMS keeps among the ``alive``.

    ``overlaps`` has a word for each row: the better rows of the tile that overlap it.
    """
    word = tl.sum(tl.where(alive, bits, 0))
    previous = tl.zeros([], tl.int64)
    while word != previous:
        previous = word
        word = tl.sum(tl.where(alive & ((overlaps & previous) == 0), bits, 0))
    return word


@triton.jit
def _first_key(words, tiles):
    """Return for each column of words the number of its first set bit, or NONE.

    Bits are counted through all words of the column, in the order of ``tiles``. Triton has no
    instruction for this, so the number is read off the exponent of a float.
    """
    # The lowest set bit of a word is a power of two. float32 holds it exactly, and the exponent
    # is the number of the bit. The mask drops the sign, which is set for bit 63.
    exponent = (words & -words).to(tl.float32).to(tl.int32, bitcast=True) >> 23
    number = tiles[:, None] * TILE + (exponent & 255) - 127
    return tl.min(tl.where(words != 0, number, NONE), axis=0)
