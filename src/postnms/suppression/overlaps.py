"""Which ranked candidates overlap: the owners of greedy NMS, and lists of overlapping pairs.

:func:`owners` and :func:`overlapping` have three implementations that return equal results. The
``cpu`` backend calls the compiled kernels in ``kernels/overlaps.py``, and the ``triton`` backend
those in ``triton/overlaps.py``. The ``eager`` backend runs the torch code in this file. The owners
of plain greedy NMS come from :func:`postnms.ops.cluster_nms` with the same backend.

n: candidates, g: groups, p: pairs, G: groups of one padded batch, L: candidates of the largest of
these G groups.
"""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from postnms import ops
from postnms.boxes import paired_distance, paired_ios, paired_iou
from postnms.ops.clustering.eager import fixed_point
from postnms.suppression.pairs import Pairs, max_by
from postnms.suppression.protocol import Padded, Ranked

Measure = Literal["iou", "ios", "diou"]
"""How the overlap of two boxes is measured. ``iou``: intersection over union. ``ios``: intersection
over the area of the smaller box. ``diou``: IoU minus a power of the relative distance of the
centres (arXiv 1911.08287)."""

MEASURES: tuple[Measure, ...] = ("iou", "ios", "diou")
"""All measures. A kernel gets the position of a measure in this tuple."""


def owners(
    ranked: Ranked,
    threshold: float | Tensor,
    measure: Measure = "iou",
    *,
    beta: float = 1.0,
    separate: Tensor | None = None,
) -> Tensor:
    """Cluster the candidates of each group as greedy NMS does, and return their owners.

    Candidates are visited in the order of the ranking. A candidate becomes a key if no earlier key
    overlaps it by more than the threshold. Otherwise the first key that overlaps it so owns it.

    Args:
        ranked: Candidates in the order of the ranking.
        threshold: One threshold for all keys, or (n,) float32 with the threshold of each candidate
            for the case that it becomes a key.
        measure: How the overlap is measured.
        beta: Power of the relative distance of the centres. Only ``diou`` uses it.
        separate: (n,) int64. Two candidates with equal numbers never suppress each other.

    Returns:
        (n,) int64, the position in the ranking of the key that owns each candidate. A key owns
        itself.
    """
    if measure == "iou" and separate is None and not isinstance(threshold, Tensor):
        keys, assignment = ops.cluster_nms(
            ranked.boxes, ranked.rank, ranked.group, threshold, backend=ranked.backend
        )
        return keys[assignment]
    if not isinstance(threshold, Tensor):
        threshold = torch.full_like(ranked.rank, threshold)
    # numba compiles a kernel anew for every memory layout.
    thresholds = threshold.float().contiguous()
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import overlaps as kernels

        numbers = np.zeros(0, np.int64) if separate is None else separate.numpy()
        owner = np.full(len(ranked), -1, np.int64)
        kernels.assign_owners(
            *arrays(ranked), thresholds.numpy(), MEASURES.index(measure), beta, numbers, owner
        )
        return torch.from_numpy(owner)
    if ranked.backend == "triton":
        from postnms.suppression.triton import overlaps as kernels

        return kernels.assign_owners(
            columns(ranked), ranked.starts, thresholds, MEASURES.index(measure), beta, separate
        )
    owner = torch.empty_like(ranked.rows)
    for batch in ranked.padded():
        over = (
            overlap_matrix(ranked, batch, measure, beta) > thresholds[batch.places][:, :, None]
        ) & batch.ahead
        if separate is not None:
            over &= separate[batch.places][:, :, None] != separate[batch.places][:, None, :]
        # The fixed point of Cluster-NMS equals the keys of greedy NMS.
        kept = fixed_point(over)
        first = (over & kept[:, :, None]).to(torch.uint8).argmax(dim=1)
        itself = torch.arange(batch.places.shape[1], device=owner.device)
        chosen = batch.places.gather(1, torch.where(kept, itself, first))
        owner[batch.places[batch.real]] = chosen[batch.real]
    return owner


def overlapping(ranked: Ranked, firsts: Tensor, threshold: float) -> Pairs:
    """Return the pairs of selected candidates and the candidates of their group that they overlap.

    A pair has an IoU over the threshold. Each selected candidate is also paired with itself,
    whatever the threshold. Pairs are ordered by rising ``first``, then by rising ``second``.

    Args:
        ranked: Candidates in the order of the ranking.
        firsts: (n,) bool, the candidates that may be the first of a pair.
        threshold: IoU that a pair must exceed, in [0, 1].
    """
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import overlaps as kernels

        pairs = kernels.overlapping(*arrays(ranked), firsts.numpy(), np.float32(threshold))
        return Pairs(*map(torch.from_numpy, pairs))
    if ranked.backend == "triton":
        from postnms.suppression.triton import overlaps as kernels

        return Pairs(
            *kernels.overlapping(columns(ranked), ranked.starts, ranked.group, firsts, threshold)
        )
    parts = []
    for batch in ranked.padded():
        iou = overlap_matrix(ranked, batch)
        places = batch.places
        real = batch.real
        itself = torch.eye(places.shape[1], dtype=torch.bool, device=places.device)
        selected = (iou > threshold) | itself
        selected &= (firsts[places] & real)[:, :, None] & real[:, None, :]
        group, first, second = selected.nonzero(as_tuple=True)
        parts.append((places[group, first], places[group, second], iou[group, first, second]))
    # Without candidates there is no batch. The columns of the ranking are then empty as well.
    pairs = [torch.cat(column) for column in zip(*parts, strict=True)] or [
        ranked.rows,
        ranked.rows,
        ranked.scores,
    ]
    # Batches come by falling length of their groups, so the pairs are not yet in order.
    order = torch.argsort(pairs[0], stable=True)
    return Pairs(*(column[order] for column in pairs))


def overlap_matrix(
    ranked: Ranked, batch: Padded, measure: Measure = "iou", beta: float = 1.0
) -> Tensor:
    """Return the overlap (G, L, L) float32 of all boxes of a group with each other.

    The result includes the padding. ``beta`` is the power of the relative distance of the centres,
    which only ``diou`` uses.
    """
    boxes = ranked.boxes[batch.places]
    first = boxes[:, :, None]
    second = boxes[:, None]
    if measure == "ios":
        return paired_ios(first, second)
    iou = paired_iou(first, second)
    return iou if measure == "iou" else iou - paired_distance(first, second) ** beta


def in_float32(settings: Any) -> Any:
    """Return settings (a named tuple) as a kernel needs them: each Python float becomes a float32.

    Torch rounds a Python float to the dtype of the tensor before it compares or multiplies. Kernels
    must do the same to return equal results.
    """
    return type(settings)(
        *(np.float32(value) if isinstance(value, float) else value for value in settings)
    )


def arrays(ranked: Ranked) -> tuple[np.ndarray, np.ndarray]:
    """Return the arguments that all kernels share: ``columns`` (4, n) and ``starts`` (g + 1,).

    ``columns`` holds the left, top, right and bottom edges, float32, in pixels. ``starts`` holds
    the position at which each group begins, int64, and at its end the number of candidates.
    """
    return np.ascontiguousarray(ranked.boxes.numpy().T), ranked.starts.numpy()


def columns(ranked: Ranked) -> Tensor:
    """Return the edges (4, n) of the boxes for Triton kernels: left, top, right and bottom."""
    return ranked.boxes.T.contiguous()


def is_key(owner: Tensor) -> Tensor:
    """Return a mask (n,) bool of the candidates that own themselves."""
    return owner == torch.arange(len(owner), device=owner.device)


def best_owners(ranked: Ranked, keys: Tensor, threshold: float) -> Tensor:
    """Return for each candidate the position (n,) int64 of the key that overlaps it most.

    Only keys that rank ahead of the candidate and overlap it with an IoU over the threshold count.
    Of keys with equal IoU the one that ranks first owns the candidate. A key owns itself. ``keys``
    is a mask (n,) bool. The keys must come from :func:`owners` with the same threshold, so that
    every other candidate has a key that overlaps it.
    """
    pairs = overlapping(ranked, keys, threshold)
    ahead = ((pairs.first < pairs.second) & ~keys[pairs.second]).nonzero().squeeze(1)
    first = pairs.first[ahead]
    second = pairs.second[ahead]
    overlap = pairs.overlap[ahead]
    best = (overlap == max_by(overlap, second, len(ranked))[second]).nonzero().squeeze(1)
    itself = torch.arange(len(ranked), device=ranked.rows.device)
    # Several keys may overlap a candidate equally. The minimum is the key that ranks first.
    return itself.scatter_reduce(0, second[best], first[best], "amin")
