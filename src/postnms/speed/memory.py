"""Peak memory of ``cluster_nms`` beyond its input, with the result included.

It can be measured on Linux only, which keeps the peak of every process under ``/proc``.
"""

import os
import subprocess
import sys
from pathlib import Path

from postnms.ops import cluster_nms
from postnms.speed.clustering import IOU_THRESHOLD, synthetic_scene
from postnms.speed.timing import torch_threads

SIZES = (100_000, 1_000_000)
"""Numbers of boxes for which ``postnms benchmark`` measures memory."""

WARM_UP = 2000
"""Number of boxes of the first call, which compiles or loads the kernels."""

_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def bytes_a_box(count: int) -> float | None:
    """Measure the peak extra memory of one call on ``count`` boxes, on one thread.

    The call runs in a process of its own, so that earlier work does not change the result.

    Returns:
        Bytes for each box, or None if the system does not keep the peak memory of a process.
    """
    if not (_RESET.exists() and _STATUS.exists()):
        return None
    # With these settings, glibc returns freed memory to the system at once. Otherwise the call
    # would reuse the memory that was needed to make the scene, and it would not be counted.
    thresholds = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [
        sys.executable,
        "-c",
        f"from postnms.speed import memory; print(memory.extra_bytes({count}))",
    ]
    shown = subprocess.run(
        command, env=os.environ | thresholds, stdout=subprocess.PIPE, text=True, check=True
    )
    return int(shown.stdout) / count


def extra_bytes(count: int) -> int:
    """Return the bytes by which one call on ``count`` boxes raises the peak of this process.

    A first call on :data:`WARM_UP` boxes compiles or loads the kernels, so that they do not count.
    """
    with torch_threads(1):
        boxes, scores, group = synthetic_scene(count, 1)
        cluster_nms(boxes[:WARM_UP], scores[:WARM_UP], group[:WARM_UP], IOU_THRESHOLD)
        # "5" makes Linux set the peak (VmHWM) back to the present memory of the process (VmRSS).
        _RESET.write_text("5")
        before = _kilobytes("VmRSS")
        cluster_nms(boxes, scores, group, IOU_THRESHOLD)
        return max(_kilobytes("VmHWM") - before, 0) * 1024


def _kilobytes(field: str) -> int:
    """Return a field of the status of this process, in units of 1024 bytes."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1])
