"""How much memory ``cluster_nms`` takes at its peak, beyond its input; result included. Linux alone tells."""

import os
import subprocess
import sys
from pathlib import Path

from postnms.ops import cluster_nms
from postnms.speed.clustering import IOU_THRESHOLD, scene
from postnms.speed.timing import torch_threads

SIZES = (100_000, 1_000_000)
WARM_UP = 2000
_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def bytes_a_box(count: int) -> float | None:
    """Peak extra memory of one call on one thread, in bytes a box; measured in a process of its own.

    None where the system does not say what a process takes at most.
    """
    if not (_RESET.exists() and _STATUS.exists()):
        return None
    # With these, glibc gives back at once what is freed; the call would else use up what making the scene left.
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
    """What a call adds to the peak of this process, after one at a small size that compiles or loads the kernels."""
    with torch_threads(1):
        boxes, scores, group = scene(count, 1)
        cluster_nms(boxes[:WARM_UP], scores[:WARM_UP], group[:WARM_UP], IOU_THRESHOLD)
        _RESET.write_text("5")
        before = _kilobytes("VmRSS")
        cluster_nms(boxes, scores, group, IOU_THRESHOLD)
        return max(_kilobytes("VmHWM") - before, 0) * 1024


def _kilobytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1])
