"""``cluster_nms``: greedy NMS that also says which kept box owns each suppressed box.

This file holds the contract of the operation, its checks and its dispatch (paper: section 3.1).
Each backend is a function of the same signature, in a file or a folder beside this file. It
receives checked input: boxes (n, 4) and scores (n,), each in float32 or float64, and groups (n,)
int64. The backend ``cpu`` is the exception: it checks the values itself, in compiled code.

n: candidates, k: keys.
"""

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from postnms.boxes import at_least_float32
from postnms.checks import check_boxes, check_finite
from postnms.ops.clustering import eager, reference

BACKENDS = ("reference", "eager", "cpu", "triton")
"""Names of the backends. The first one is the specification of the others."""

# torch installs Triton on some operating systems only.
_HAS_TRITON = find_spec("triton") is not None


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
    suppresses nothing. A box without area has IoU 0 with every box.

    The result is deterministic. No gradient flows through it, although boxes and scores may
    require one. The function works under ``torch.compile`` and under autocast.

    Args:
        boxes: Tensor (n, 4) of a floating dtype, with the corners ``x1, y1, x2, y2`` of each box.
            All values are finite, with x1 <= x2 and y1 <= y2, in any unit. Boxes in half precision
            are computed in float32, and boxes in float64 are computed in float64.
        scores: Tensor (n,) of a floating dtype. All values are finite, and they may be negative.
        groups: Tensor (n,) int64, with values >= 0. Only candidates of the same group suppress
            each other, for example those of one class in one image. None: all candidates are
            of one group.
        iou_threshold: A number in [0, 1]. It is rounded to the dtype in which the boxes are
            computed. An IoU that equals the threshold does not suppress.
        backend: One of ``"reference"``, ``"eager"``, ``"cpu"`` and ``"triton"``. None: ``"cpu"``
            for CPU tensors, ``"triton"`` for CUDA tensors where Triton is installed, and
            ``"eager"`` otherwise. No backend has run on a GPU so far.

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
    _check_arguments(boxes, scores, groups, iou_threshold, backend)
    if groups is None:
        groups = torch.zeros(len(scores), dtype=torch.int64, device=boxes.device)
    return torch.ops.postnms.cluster_nms(boxes, scores, groups, iou_threshold, backend or "")


torch.library.define(
    "postnms::cluster_nms",
    "(Tensor boxes, Tensor scores, Tensor groups, float iou_threshold, str backend) "
    "-> (Tensor, Tensor)",
)


@torch.library.impl("postnms::cluster_nms", "CompositeExplicitAutograd")
def _cluster_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, backend: str
) -> tuple[Tensor, Tensor]:
    boxes = at_least_float32(boxes.detach())
    scores = at_least_float32(scores.detach())
    # torch compares in the dtype of the tensor, numpy and numba in double. For a threshold such
    # as 0.3 the two disagree, so it is rounded here, once for all backends.
    threshold = iou_threshold if boxes.dtype == torch.float64 else float(np.float32(iou_threshold))
    if backend == "cpu" or (not backend and boxes.device.type == "cpu"):
        from postnms.ops.clustering import cpu

        clustered = cpu.cluster_nms(boxes, scores, groups, threshold)
        # None: a value is wrong, and the checks below raise the error that names it.
        if clustered is not None:
            return clustered
    _check_values(boxes, scores, groups)
    if backend == "triton" or (not backend and boxes.device.type == "cuda" and _HAS_TRITON):
        from postnms.ops.clustering import triton

        return triton.cluster_nms(boxes, scores, groups, threshold)
    if backend == "reference":
        return reference.cluster_nms(boxes, scores, groups, threshold)
    return eager.cluster_nms(boxes, scores, groups, threshold)


def _check_values(boxes: Tensor, scores: Tensor, groups: Tensor) -> None:
    """Raise ValueError for the first wrong value. Shapes and dtypes are checked before."""
    check_boxes("boxes", boxes)
    check_finite("scores", scores)
    if len(groups) and int(groups.min()) < 0:
        raise ValueError(f"groups: expected values >= 0, got {int(groups.min())}")


@torch.library.register_fake("postnms::cluster_nms")
def _(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, backend: str
) -> tuple[Tensor, Tensor]:
    # The number of keys depends on the values, so that a compiled graph knows it as a symbol only.
    keys = torch.library.get_ctx().new_dynamic_size()
    return groups.new_empty(keys), torch.empty_like(groups)


# Autocast would lower the precision of single operations inside a backend. Registered this way, it
# casts half precision to float32 once and leaves the operations inside as they are.
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("postnms::cluster_nms", _device, torch.float32)


def _check_arguments(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float, backend: str | None
) -> None:
    """Raise ValueError unless types, shapes, dtypes, devices and the two options are valid.

    The values of the tensors are not read, so that this also works under ``torch.compile``.
    """
    for name, tensor in (("boxes", boxes), ("scores", scores), ("groups", groups)):
        if not isinstance(tensor, Tensor) and not (name == "groups" and tensor is None):
            raise ValueError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ValueError(f"boxes: expected floating (n, 4), got {boxes.dtype} {tuple(boxes.shape)}")
    if scores.shape != boxes.shape[:1] or not scores.is_floating_point():
        raise ValueError(
            f"scores: expected floating of shape ({len(boxes)},), "
            f"got {scores.dtype} {tuple(scores.shape)}"
        )
    if groups is not None and (groups.shape != boxes.shape[:1] or groups.dtype != torch.int64):
        raise ValueError(
            f"groups: expected int64 of shape ({len(boxes)},), "
            f"got {groups.dtype} {tuple(groups.shape)}"
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
    """Tell whether TRITON_INTERPRET=1 switched on Triton's interpreter, which takes CPU tensors."""
    if not _HAS_TRITON:
        return False
    from triton import knobs

    return knobs.runtime.interpret
