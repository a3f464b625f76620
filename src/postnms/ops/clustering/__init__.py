"""``cluster_nms``: greedy NMS that also says which kept box owns each suppressed one.

The contract, its checks and the one dispatch live here; each backend is a function of the same signature that may
rely on checked input: boxes (n, 4) and scores (n,) of one floating dtype, float32 or float64, groups (n,) int64.
"""

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from postnms.boxes import at_least_float32
from postnms.ops.clustering import eager, reference
from postnms.structures import check_boxes, check_finite

BACKENDS = ("reference", "eager", "cpu", "triton")
_HAS_TRITON = find_spec("triton") is not None  # it comes with torch, but not for every system


def cluster_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None = None,
    iou_threshold: float = 0.5,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Greedy NMS within groups, with the cluster that each candidate belongs to (paper: section 3.1).

    Candidates are visited by falling score (ties: lower index). One that no earlier key of its group overlaps with
    IoU > ``iou_threshold`` becomes a key; any other belongs to the first key, in that order, that overlaps it so.

    Args:
        boxes: (n, 4) floating, xyxy. Half precision is computed in float32; float64 stays.
        scores: (n,) floating, finite.
        groups: (n,) int64 >= 0; only candidates of one group meet. None: one group.
        iou_threshold: in [0, 1], rounded to the boxes' computing dtype.
        backend: one of ``BACKENDS``; None: ``cpu`` for CPU tensors, ``triton`` for CUDA tensors where Triton is
            installed, else ``eager``.

    Returns:
        keys: (k,) int64, candidate indices by falling score (ties: lower index).
        assignment: (n,) int64, the position in ``keys`` of the candidate's key; a key's own is its position.

    Raises:
        ValueError: for input that is not as above; the message names the argument.

    Deterministic; nothing is differentiable. Works under ``torch.compile`` and autocast.
    """
    _check_arguments(boxes, scores, groups, iou_threshold, backend)
    if groups is None:
        groups = torch.zeros(len(scores), dtype=torch.int64, device=boxes.device)
    return torch.ops.postnms.cluster_nms(boxes, scores, groups, iou_threshold, backend or "")


torch.library.define(
    "postnms::cluster_nms",
    "(Tensor boxes, Tensor scores, Tensor groups, float iou_threshold, str backend) -> (Tensor, Tensor)",
)


@torch.library.impl("postnms::cluster_nms", "CompositeExplicitAutograd")
def _cluster_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, backend: str
) -> tuple[Tensor, Tensor]:
    boxes, scores = at_least_float32(boxes.detach()), at_least_float32(scores.detach())
    # Rounded once: torch compares in the tensor's dtype, numpy and numba in double, and the two differ for 0.3.
    threshold = iou_threshold if boxes.dtype == torch.float64 else float(np.float32(iou_threshold))
    if backend == "cpu" or (not backend and boxes.device.type == "cpu"):
        from postnms.ops.clustering import cpu

        found = cpu.cluster_nms(boxes, scores, groups, threshold)
        if found is not None:
            return found
    _check_values(boxes, scores, groups)
    if backend == "triton" or (not backend and boxes.device.type == "cuda" and _HAS_TRITON):
        from postnms.ops.clustering import triton

        return triton.cluster_nms(boxes, scores, groups, threshold)
    if backend == "reference":
        return reference.cluster_nms(boxes, scores, groups, threshold)
    return eager.cluster_nms(boxes, scores, groups, threshold)


def _check_values(boxes: Tensor, scores: Tensor, groups: Tensor) -> None:
    check_boxes("boxes", boxes)
    check_finite("scores", scores)
    if len(groups) and int(groups.min()) < 0:
        raise ValueError(f"groups: expected values >= 0, got {int(groups.min())}")


@torch.library.register_fake("postnms::cluster_nms")
def _(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, backend: str
) -> tuple[Tensor, Tensor]:
    keys = torch.library.get_ctx().new_dynamic_size()
    return groups.new_empty(keys), torch.empty_like(groups)


for _device in ("cpu", "cuda"):
    torch.library.register_autocast("postnms::cluster_nms", _device, torch.float32)


def _check_arguments(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float, backend: str | None
) -> None:
    for name, tensor in (("boxes", boxes), ("scores", scores), ("groups", groups)):
        if not isinstance(tensor, Tensor) and not (name == "groups" and tensor is None):
            raise ValueError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ValueError(f"boxes: expected floating (n, 4), got {boxes.dtype} {tuple(boxes.shape)}")
    if scores.shape != boxes.shape[:1] or not scores.is_floating_point():
        raise ValueError(
            f"scores: expected floating of shape ({len(boxes)},), got {scores.dtype} {tuple(scores.shape)}"
        )
    if groups is not None and (groups.shape != boxes.shape[:1] or groups.dtype != torch.int64):
        raise ValueError(
            f"groups: expected int64 of shape ({len(boxes)},), got {groups.dtype} {tuple(groups.shape)}"
        )
    for name, tensor in (("scores", scores), ("groups", groups)):
        if tensor is not None and tensor.device != boxes.device:
            raise ValueError(
                f"{name}: expected device {boxes.device} as boxes, got {tensor.device}"
            )
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold: expected a number in [0, 1], got {iou_threshold}")
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)} or None, got {backend!r}")
    if backend == "cpu" and boxes.device.type != "cpu":
        raise ValueError(f"backend: 'cpu' needs CPU tensors, got boxes on {boxes.device}")
    if backend == "triton" and boxes.device.type != "cuda" and not _interprets_triton():
        raise ValueError(f"backend: 'triton' needs CUDA tensors, got boxes on {boxes.device}")


def _interprets_triton() -> bool:
    """Was Triton's interpreter, which takes CPU tensors, switched on by TRITON_INTERPRET=1?"""
    if not _HAS_TRITON:
        return False
    from triton import knobs

    return knobs.runtime.interpret
