"""``cluster_nms``: greedy NMS that also says which kept box owns each suppressed box.

This file holds the contract of the operation, its checks and its dispatch (paper: section 3.1).
Each backend is a function of the same signature, in a file or a folder beside this file. It
receives checked input: boxes (n, 4) and scores (n,), each in float32 or float64, and groups (n,)
int64. The backend ``cpu`` is the exception: it checks the values itself, in compiled code.

n: candidates, k: keys.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from postnms.boxes import at_least_float32
from postnms.checks import check_boxes, check_finite, values_are_checked
from postnms.errors import UserError, shown
from postnms.ops.checks import (
    FLOATING,
    INTEGER,
    check_column,
    check_dense,
    check_device,
    is_common,
    is_number,
    plain,
)
from postnms.ops.clustering import eager, reference, self_check

BACKENDS = ("reference", "eager", "cpu", "triton")
"""Names of the backends. The first one is the specification of the others."""
_preferred: ContextVar[str | None] = ContextVar("_preferred", default=None)


@contextmanager
def preferred_backend(name: str | None) -> Iterator[None]:
    """Let calls of :func:`cluster_nms` that name no backend take this one. None changes nothing."""
    token = _preferred.set(name or _preferred.get())
    try:
        yield
    finally:
        _preferred.reset(token)


def cluster_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None = None,
    iou_threshold: float = 0.5,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Perform greedy NMS within groups, and return the cluster that each candidate belongs to.

    NMS keeps some of the candidates, the keys, and suppresses the others. This function also
    says which key suppressed each of them. A key and the candidates that it suppressed are one
    cluster (paper: section 3.1).

    Candidates are visited by falling score. Of candidates with equal scores, the one with the
    lowest index comes first. A candidate becomes a key if no earlier key of its group overlaps it
    with IoU > ``iou_threshold``. Otherwise it belongs to the first key, in that order, that
    overlaps it so. This is not always the key with the highest IoU. A suppressed candidate
    suppresses nothing. A box without area has IoU 0 with every box, and so has a box whose area is
    infinite in the dtype in which it is computed.

    The result is deterministic. No gradient flows through it, although boxes and scores may
    require one. The function works under ``torch.compile``, ``torch.export`` and autocast, with any
    number of candidates.

    Args:
        boxes: Tensor (n, 4) of dtype float16, bfloat16, float32 or float64, with the corners
            ``x1, y1, x2, y2`` of each box. All values are finite, with x1 <= x2 and y1 <= y2, in
            any unit. Boxes in half precision are computed in float32, and boxes in float64 are
            computed in float64.
        scores: Tensor (n,) of one of these dtypes. All values are finite. They may be negative.
        groups: Tensor (n,) of any integer dtype but uint64, with values >= 0. Only candidates of
            the same group suppress each other, for example those of one class in one image. None:
            all candidates are of one group.
        iou_threshold: A number in [0, 1]. It is rounded to the dtype in which the boxes are
            computed. An IoU that equals the threshold does not suppress.
        backend: One of ``"reference"``, ``"eager"``, ``"cpu"`` and ``"triton"``. None: ``"cpu"``
            for CPU tensors, ``"triton"`` for CUDA tensors where Triton has passed a check, and
            ``"eager"`` otherwise. The first call on a card of a machine runs the check, which is
            noted in the user's cache. No backend has run on a GPU so far.

    Returns:
        A tuple ``(keys, assignment)`` of tensors on the device of ``boxes``.

        - ``keys``: (k,) int64. Indices of the kept candidates, by falling score. Of equal scores,
            the lower index comes first.
        - ``assignment``: (n,) int64, with values in [0, k). For each candidate, the position in
            ``keys`` of its key. A key is assigned to its own position. ``keys[assignment]`` gives
            the candidate index of the key.

    Raises:
        ValueError: If an argument is not as described above, if the tensors are on different
            devices, if the backend cannot run on their device, or if ``"cpu"`` is given 2**28 or
            more boxes. The message begins with the name of the argument.

    Example:
        >>> import torch
        >>> from postnms import cluster_nms
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [40, 0, 50, 10], [1, 0, 11, 10]])
        >>> scores = torch.tensor([0.8, 0.9, 0.7])
        >>> keys, assignment = cluster_nms(boxes, scores, iou_threshold=0.5)
        >>> keys.tolist()
        [1, 0]
        >>> assignment.tolist()  # box 2 overlaps box 0, whose position in keys is 1
        [1, 0, 1]

        In different groups the same two boxes do not suppress each other:

        >>> keys, assignment = cluster_nms(boxes, scores, torch.tensor([0, 0, 1]))
        >>> keys.tolist()
        [1, 0, 2]
    """
    check_dense("boxes", boxes)
    check_dense("scores", scores)
    if groups is not None:
        check_dense("groups", groups)
    if not is_number(iou_threshold):
        came = type(iou_threshold).__name__
        raise ValueError(f"iou_threshold: expected a number in [0, 1], got {came}")
    _check_threshold(iou_threshold)
    if backend is not None:
        _check_name(backend)
    return _operator(boxes, scores, groups, iou_threshold, backend or "")


torch.library.define(
    "postnms::cluster_nms",
    "(Tensor boxes, Tensor scores, Tensor? groups, float iou_threshold, str backend) "
    "-> (Tensor, Tensor)",
)
_operator = torch.ops.postnms.cluster_nms.default


def _cluster_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float, backend: str
) -> tuple[Tensor, Tensor]:
    backend = backend or _preferred.get() or ""
    # All checks are here, so that they hold in graphs too, which call this function alone.
    if backend in ("", "cpu") and _is_common(boxes, scores, groups) and 0 <= iou_threshold <= 1:
        # For few boxes the checks below would take as long as the rest. The compiled code makes
        # them too, and returns None if one fails. Those below then raise the error that names it.
        clustered = _cpu().cluster_nms(boxes, scores, groups, iou_threshold)
        if clustered is not None:
            return clustered
    _check_tensors(boxes, scores, groups)
    _check_options(iou_threshold, backend, boxes.device)
    boxes = at_least_float32(plain(boxes))
    scores = at_least_float32(plain(scores))
    if groups is None:
        groups = torch.zeros(len(scores), dtype=torch.int64, device=boxes.device)
    groups = plain(groups).long()
    # torch compares in the dtype of the tensor, numpy and numba in double. For a threshold such
    # as 0.3 the two disagree, so it is rounded here, once for all backends.
    threshold = iou_threshold if boxes.dtype == torch.float64 else float(np.float32(iou_threshold))
    backend = backend or _backend_of(boxes.device)
    if backend == "cpu":
        clustered = _cpu().cluster_nms(boxes, scores, groups, threshold)
        # None: a value is wrong, and the checks below raise the error that names it.
        if clustered is not None:
            return clustered
    # The values of a structure were checked when it was built. To check them again, the host would
    # wait for a GPU.
    if backend == "cpu" or values_are_checked():
        _check_values(boxes, scores, groups)
    if backend == "triton":
        from postnms.ops.clustering import triton

        return triton.cluster_nms(boxes, scores, groups, threshold)
    if backend == "reference":
        return reference.cluster_nms(boxes, scores, groups, threshold)
    return eager.cluster_nms(boxes, scores, groups, threshold)


torch.library.impl("postnms::cluster_nms", "CompositeExplicitAutograd", _cluster_nms)


@torch.library.register_fake("postnms::cluster_nms")
def _(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float, backend: str
) -> tuple[Tensor, Tensor]:
    check_dense("boxes", boxes)
    _check_tensors(boxes, scores, groups)
    # The number of keys depends on the values, so that a compiled graph knows it as a symbol only.
    count = torch.library.get_ctx().new_dynamic_size()
    keys = torch.empty(count, dtype=torch.int64, device=boxes.device)
    return keys, torch.empty(boxes.shape[0], dtype=torch.int64, device=boxes.device)


# Autocast would lower the precision of single operations inside a backend. Registered this way, it
# casts half precision to float32 once and leaves the operations inside as they are.
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("postnms::cluster_nms", _device, torch.float32)


def _is_common(boxes: Tensor, scores: Tensor, groups: Tensor | None) -> bool:
    """Tell whether the tensors are of the kind that the CPU kernel takes without a conversion.

    Lengths and values are not looked at.
    """
    if not (is_common(boxes, torch.float32, 2) and is_common(scores, torch.float32, 1)):
        return False
    return groups is None or is_common(groups, torch.int64, 1)


def _check_tensors(boxes: Tensor, scores: Tensor, groups: Tensor | None) -> None:
    """Raise ValueError unless shapes, dtypes and devices are valid. No value is read."""
    check_column("boxes", boxes, ("n", 4), FLOATING)
    check_column("scores", scores, boxes.shape[:1], FLOATING)
    check_device("scores", scores, boxes.device, "boxes")
    if groups is not None:
        check_column("groups", groups, boxes.shape[:1], INTEGER)
        check_device("groups", groups, boxes.device, "boxes")


def _check_threshold(iou_threshold: float) -> None:
    """Raise ValueError unless the number is in its range."""
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold: expected a number in [0, 1], got {iou_threshold}")


def _check_name(backend: object) -> None:
    """Raise ValueError unless this is the name of a backend."""
    if not isinstance(backend, str) or backend not in BACKENDS:
        came = shown(backend) if isinstance(backend, str) else type(backend).__name__
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)} or None, got {came}")


def _check_options(iou_threshold: float, backend: str, device: torch.device) -> None:
    """Raise ValueError unless the threshold is in its range and the backend runs on the device."""
    _check_threshold(iou_threshold)
    if backend:
        _check_name(backend)
    if backend == "cpu" and device.type != "cpu":
        raise UserError(f"backend: 'cpu' needs CPU tensors, got boxes on {device}")
    if backend == "triton" and device.type != "cuda" and not _interprets_triton():
        raise UserError(f"backend: 'triton' needs CUDA tensors, got boxes on {device}")


def _check_values(boxes: Tensor, scores: Tensor, groups: Tensor) -> None:
    """Raise ValueError for the first wrong value. Shapes and dtypes are checked before."""
    check_boxes("boxes", boxes)
    check_finite("scores", scores)
    if len(groups) and bool((groups < 0).any()):
        raise ValueError(f"groups: expected values >= 0, got {int(groups.min())}")


def _backend_of(device: torch.device) -> str:
    """Return the fastest backend for tensors on the device."""
    if device.type == "cpu":
        return "cpu"
    return "triton" if device.type == "cuda" and self_check.triton_passes(device) else "eager"


@cache
def _cpu() -> ModuleType:
    """Import the CPU kernel and return its module. Without a call, numba is not imported."""
    from postnms.ops.clustering import cpu

    return cpu


def _interprets_triton() -> bool:
    """Tell whether TRITON_INTERPRET=1 switched on Triton's interpreter, which takes CPU tensors."""
    if not self_check.HAS_TRITON:
        return False
    from triton import knobs

    return knobs.runtime.interpret
