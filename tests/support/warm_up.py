"""Compile the kernels that most tests run, before there are several workers.

On a clean clone each worker would compile them for itself, at the same time. numba keeps what it
has compiled beside the source, where the workers find it.
"""

import subprocess
import sys
from contextlib import ExitStack


def clustering():
    """Compile ``cluster_nms``, which alone takes as long as the rest."""
    import torch

    from postnms import cluster_nms

    for dtype in (torch.float32, torch.float64):
        boxes = torch.tensor([[0, 0, 9, 9], [1, 0, 9, 9]], dtype=dtype)
        cluster_nms(boxes, boxes[:, 0], torch.zeros(2, dtype=torch.int64), 0.5)


def the_rest():
    """Compile RoIAlign and the kernels of the evaluation."""
    import torch

    from postnms.evaluation.columns import read_results
    from postnms.evaluation.metrics import evaluate_rows
    from postnms.ops import pool_pyramid
    from tests.support.coco import scene

    truth, results = scene(0)
    rows = {name: read_results(truth, results) for name in ("nms", "post_nms")}
    evaluate_rows(truth, rows, bootstrap=5)
    levels = {name: torch.rand(1, 4, 8, 8, requires_grad=True) for name in ("0", "1")}
    boxes = torch.tensor([[0.0, 0, 9, 9]])
    pool_pyramid(levels, boxes, torch.zeros(1, dtype=torch.int64), (4, 8)).sum().backward()


PARTS = {"clustering": clustering, "the_rest": the_rest}


def warm_up():
    """Run all parts, each in a process of its own, and wait for them."""
    with ExitStack() as running:
        for name in PARTS:
            running.enter_context(subprocess.Popen([sys.executable, "-m", __name__, name]))


if __name__ == "__main__":
    PARTS[sys.argv[1]]()
