"""``cluster_nms`` in Triton kernels, for CUDA tensors.

Candidates are ordered by group, then falling score, then index, and taken in blocks, each in three launches.
``_compare`` writes, for each row of the block, which better rows of the block overlap it: a bit a row, a 64-bit word a
tile of 64, for tiles whose groups meet. ``_settle`` starts a program where a group begins: it walks the tiles of its
groups, finds the keys of a tile by the fixed point of Cluster-NMS (arXiv 2005.03572) on the tile's own words, and reads
every row's owner, the first key with a bit, off the words. ``_claim`` lets the rows behind the block that still have no
owner look for one among the block's keys; only the block's last group reaches there, and programs past it end at once.
The host never waits, until the number of keys is known at the very end. Memory is O(n + BLOCK ** 2 / 64).
Every operation is rounded as in ``reference``: no contraction into fused multiply-adds, and a division that is rounded
correctly; before Triton 3.6 that division takes subnormal numbers for 0, which only areas or IoUs under 1e-37 notice.

Not verified on a GPU yet: it has been run in Triton's interpreter only, and compiled, but not run, for CUDA.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096
"""Rows that are settled together. A multiple of 64."""

CLAIMERS = 1024
"""Programs that share the rows behind a block."""

TILE = tl.constexpr(64)  # the bits of a word
NONE = tl.constexpr(2**30)

LAUNCH: dict[str, Any] = {"num_warps": 8, "enable_fp_fusion": False}


def cluster_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """See :func:`postnms.ops.cluster_nms`."""
    by_score = torch.argsort(scores, descending=True, stable=True)
    order = by_score[torch.argsort(groups[by_score], stable=True)]
    # A tensor, because Triton would round a Python float to float32.
    threshold = torch.full((1,), iou_threshold, dtype=boxes.dtype, device=boxes.device)
    with torch.cuda.device_of(boxes):
        owner = _owners(boxes[order].T.contiguous(), groups[order], threshold)
    key = torch.empty_like(order)
    key[order] = order[owner]  # of each candidate, its key as a candidate index
    kept = key[by_score] == by_score
    position = torch.empty_like(order)
    position[by_score] = kept.cumsum(0) - 1
    return by_score[kept], position[key]


def _owners(columns: Tensor, groups: Tensor, threshold: Tensor) -> Tensor:
    """Of each sorted candidate, the sorted position of its key. ``columns``: (4, n)."""
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
    """``words[tile, better, row]``: which rows of one better tile of the block overlap each row of one tile."""
    tile, better = tl.program_id(0), tl.program_id(1)
    lane = tl.arange(0, TILE)
    rows, others = begin + tile * TILE + lane, begin + better * TILE + lane
    # Groups are sorted: two tiles meet where the better one ends with the group that the other begins with.
    ends = tl.load(groups + begin + better * TILE + TILE - 1, mask=better < tile, other=-1)
    if (better == tile) | (ends == tl.load(groups + begin + tile * TILE)):
        row_corners = _corners(columns, n, rows, rows < end)
        over = _is_over(row_corners, _corners(columns, n, others, others < end), tl.load(threshold))
        row_groups = tl.load(groups + rows, mask=rows < end, other=-1)
        over &= (
            row_groups[:, None] == tl.load(groups + others, mask=others < end, other=-1)[None, :]
        )
        over &= others[None, :] < rows[:, None]
        bits = tl.where(over, _bits(lane)[None, :], 0)
        tl.store(words + (tile * width + better) * TILE + lane, tl.sum(bits, axis=1))


@triton.jit(do_not_specialize=["begin", "end"])
def _settle(groups, words, owner, keys, count, begin, end, width: tl.constexpr):
    """Owners in the block of the groups that begin in one tile, and the keys of the block's last group in order."""
    first = tl.program_id(0)
    lane, tiles = tl.arange(0, TILE), tl.arange(0, width)
    starts = begin + tiles * TILE
    before = tl.load(groups + begin + first * TILE - 1, mask=first > 0, other=-1)
    last = tl.load(groups + tl.minimum(begin + first * TILE + TILE, end) - 1)
    reached = (tiles > first) & (tl.load(groups + starts, mask=starts < end, other=-1) == last)
    stop = tl.where(before < last, first + 1 + tl.sum(reached.to(tl.int32)), first)
    kept = tl.zeros([width], tl.int64)
    found = tl.zeros([], tl.int32)
    for tile in range(first, stop):
        rows = begin + tile * TILE + lane
        group = tl.load(groups + rows, mask=rows < end, other=-1)
        free = (
            (group > before)
            & (group <= last)
            & (tl.load(owner + rows, mask=rows < end, other=0) < 0)
        )
        place = words + tile * width * TILE + lane
        written = (tiles >= first) & (tiles <= tile)
        better = tl.load(place[None, :] + tiles[:, None] * TILE, mask=written[:, None], other=0)
        alive = free & (tl.max(((better & kept[:, None]) != 0).to(tl.int32), axis=0) == 0)
        kept = tl.where(
            tiles == tile, _fixed_point(alive, tl.load(place + tile * TILE), _bits(lane)), kept
        )
        first_key = _first_key(better & kept[:, None], tiles)
        is_key = free & (first_key == NONE)
        tl.debug_barrier()  # several threads hold a row: all have read its owner before one writes it
        tl.store(owner + rows, tl.where(is_key, rows, begin + first_key), mask=free)
        listed = (is_key & (group == tl.load(groups + end - 1))).to(tl.int32)
        tl.store(keys + found + tl.cumsum(listed, axis=0) - 1, rows, mask=listed > 0)
        found += tl.sum(listed)
    # A group begins in one tile only, so that one program alone lists keys.
    tl.store(count, found, mask=(before < last) & (last == tl.load(groups + end - 1)))


@triton.jit(do_not_specialize=["begin", "n"])
def _claim(columns, groups, threshold, owner, keys, count, begin, n):
    """Owners among the listed keys for the rows from ``begin``, the end of their block, to the end of their group."""
    group = tl.load(groups + begin - 1)
    listed, limit = tl.load(count), tl.load(threshold)
    start = begin + tl.program_id(0) * TILE
    while tl.load(groups + start, mask=start < n, other=-1) == group:
        rows = start + tl.arange(0, TILE)
        free = tl.load(groups + rows, mask=rows < n, other=-1) == group
        free &= tl.load(owner + rows, mask=rows < n, other=0) < 0
        corners = _corners(columns, n, rows, free)
        nearest = tl.where(free, listed, -1)
        passed = 0
        while (passed < listed) & (tl.max(nearest) == listed):
            position = passed + tl.arange(0, TILE)
            key_rows = tl.load(keys + position, mask=position < listed, other=0)
            over = _is_over(corners, _corners(columns, n, key_rows, position < listed), limit)
            nearest = tl.minimum(nearest, tl.min(tl.where(over, position[None, :], listed), axis=1))
            passed += TILE
        claimed = free & (nearest < listed)
        tl.debug_barrier()  # as in _settle
        tl.store(owner + rows, tl.load(keys + nearest, mask=claimed, other=0), mask=claimed)
        start += tl.num_programs(0) * TILE


@triton.jit
def _corners(columns, n, rows, mask):
    """The four coordinates of some rows; 0 where masked, a box that overlaps nothing."""
    column = columns + rows
    stride = tl.cast(n, tl.int64)
    left = tl.load(column, mask=mask, other=0)
    top = tl.load(column + stride, mask=mask, other=0)
    right = tl.load(column + 2 * stride, mask=mask, other=0)
    bottom = tl.load(column + 3 * stride, mask=mask, other=0)
    return left, top, right, bottom


@triton.jit
def _is_over(rows, others, threshold):
    """Is the IoU over the threshold: of each box of ``rows``, down, with each of ``others``, across."""
    left, top, right, bottom = rows
    other_left, other_top, other_right, other_bottom = others
    width = tl.minimum(right[:, None], other_right[None, :]) - tl.maximum(
        left[:, None], other_left[None, :]
    )
    height = tl.minimum(bottom[:, None], other_bottom[None, :]) - tl.maximum(
        top[:, None], other_top[None, :]
    )
    shared = tl.maximum(width, 0) * tl.maximum(height, 0)
    area, other_area = (
        (right - left) * (bottom - top),
        (other_right - other_left) * (other_bottom - other_top),
    )
    union = area[:, None] + other_area[None, :] - shared
    divisor = tl.where(union > 0, union, 1)
    # Triton's "/" is an approximation in float32, and its div_rn knows float32 only.
    iou = shared / divisor if shared.dtype == tl.float64 else tl.div_rn(shared, divisor)
    return (union > 0) & (iou > threshold)


@triton.jit
def _bits(lane):
    return tl.full([TILE], 1, tl.int64) << lane.to(tl.int64)


@triton.jit
def _fixed_point(alive, overlaps, bits):
    """The word of the kept rows of a tile, of which ``alive`` are candidates. ``overlaps``: of each row, a word."""
    word = tl.sum(tl.where(alive, bits, 0))
    previous = tl.zeros([], tl.int64)
    while word != previous:
        previous = word
        word = tl.sum(tl.where(alive & ((overlaps & previous) == 0), bits, 0))
    return word


@triton.jit
def _first_key(words, tiles):
    """Of each column of words, the number of the first bit that is set, counted over all its words, or NONE."""
    # The lowest bit of a word is a power of two: exact in float32, where its exponent is the number of the bit.
    exponent = (words & -words).to(tl.float32).to(tl.int32, bitcast=True) >> 23
    number = tiles[:, None] * TILE + (exponent & 255) - 127
    return tl.min(tl.where(words != 0, number, NONE), axis=0)
