"""Who overlaps whom among ranked candidates: keys with what they own, and lists of overlapping pairs.

n: candidates, p: pairs, L: candidates of the largest of G groups.
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
"""Intersection over union; over the smaller box; IoU less the relative distance of the centres (arXiv 1911.08287)."""

MEASURES: tuple[Measure, ...] = ("iou", "ios", "diou")


def owners(
    ranked: Ranked,
    threshold: float | Tensor,
    measure: Measure = "iou",
    *,
    beta: float = 1.0,
    separate: Tensor | None = None,
) -> Tensor:
    """Greedy clustering: (n,) int64, the place of the key that owns each candidate; a key owns itself.

    By falling rank, what no earlier key overlaps by more than the threshold becomes a key; the rest belongs to the
    first key that does. ``threshold`` may be (n,): that of each candidate as a key. ``beta``: power of the distance
    in ``diou``. ``separate`` (n,) int64: candidates of equal number never suppress each other.
    """
    if measure == "iou" and separate is None and not isinstance(threshold, Tensor):
        keys, assignment = ops.cluster_nms(
            ranked.boxes, ranked.rank, ranked.group, threshold, backend=ranked.backend
        )
        return keys[assignment]
    thresholds = torch.as_tensor(threshold, dtype=torch.float32, device=ranked.boxes.device).expand(
        len(ranked)
    )
    thresholds = thresholds.contiguous()  # of one kind for the compiler, whatever their number
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import overlaps as kernels

        numbers = np.zeros(0, np.int64) if separate is None else separate.numpy()
        owner = np.full(len(ranked), -1, np.int64)
        kernels.assign_owners(
            *arrays(ranked), thresholds.numpy(), MEASURES.index(measure), beta, numbers, owner
        )
        return torch.from_numpy(owner)
    owner = torch.empty_like(ranked.rows)
    for some in ranked.padded():
        over = (
            overlap_matrix(ranked, some, measure, beta) > thresholds[some.places][:, :, None]
        ) & some.ahead
        if separate is not None:
            over &= separate[some.places][:, :, None] != separate[some.places][:, None, :]
        kept = fixed_point(over)
        first = (over & kept[:, :, None]).to(torch.uint8).argmax(dim=1)
        own = torch.arange(some.places.shape[1], device=owner.device)
        chosen = some.places.gather(1, torch.where(kept, own, first))
        owner[some.places[some.real]] = chosen[some.real]
    return owner


def overlapping(ranked: Ranked, firsts: Tensor, threshold: float) -> Pairs:
    """For each of the candidates ``firsts`` (mask (n,)): itself, and what of its group it overlaps with IoU over it."""
    if ranked.backend == "cpu":
        from postnms.suppression.kernels import overlaps as kernels

        pairs = kernels.overlapping(*arrays(ranked), firsts.numpy(), np.float32(threshold))
        return Pairs(*map(torch.from_numpy, pairs))
    found = []
    for some in ranked.padded():
        iou = overlap_matrix(ranked, some)
        places, real = some.places, some.real
        itself = torch.eye(places.shape[1], dtype=torch.bool, device=places.device)
        wanted = (iou > threshold) | itself
        wanted &= (firsts[places] & real)[:, :, None] & real[:, None, :]
        group, first, second = wanted.nonzero(as_tuple=True)
        found.append((places[group, first], places[group, second], iou[group, first, second]))
    columns = [torch.cat(column) for column in zip(*found, strict=True)] or [
        ranked.rows,
        ranked.rows,
        ranked.scores,
    ]
    order = torch.argsort(columns[0], stable=True)
    return Pairs(*(column[order] for column in columns))


def overlap_matrix(
    ranked: Ranked, some: Padded, measure: Measure = "iou", beta: float = 1.0
) -> Tensor:
    """(G, L, L) float32: the overlap of all with all, fillings included."""
    boxes = ranked.boxes[some.places]
    first, second = boxes[:, :, None], boxes[:, None]
    if measure == "ios":
        return paired_ios(first, second)
    iou = paired_iou(first, second)
    return iou if measure == "iou" else iou - paired_distance(first, second) ** beta


def in_float32(settings: Any) -> Any:
    """The settings of a suppressor (a named tuple) for its kernel: every float as float32.

    Kernels must compare and multiply as torch does, which rounds a Python float to the dtype of the tensor.
    """
    return type(settings)(
        *(np.float32(value) if isinstance(value, float) else value for value in settings)
    )


def arrays(ranked: Ranked) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (4, n) and starts (g + 1,), as the compiled kernels take them."""
    return np.ascontiguousarray(ranked.boxes.numpy().T), ranked.starts.numpy()


def is_key(owner: Tensor) -> Tensor:
    """(n,) bool, from the place of each candidate's key."""
    return owner == torch.arange(len(owner), device=owner.device)


def best_owners(ranked: Ranked, keys: Tensor, threshold: float) -> Tensor:
    """(n,) int64: of the keys (mask) ahead of each candidate, the place of the one that overlaps it most."""
    pairs = overlapping(ranked, keys, threshold)
    ahead = (pairs.first < pairs.second) & ~keys[pairs.second]
    first, second, overlap = pairs.first[ahead], pairs.second[ahead], pairs.overlap[ahead]
    best = first[overlap == max_by(overlap, second, len(ranked))[second]]
    members = second[overlap == max_by(overlap, second, len(ranked))[second]]
    itself = torch.arange(len(ranked), device=ranked.rows.device)
    return itself.scatter_reduce(0, members, best, "amin")
