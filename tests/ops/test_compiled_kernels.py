"""All Triton kernels, of ``cluster_nms`` and the suppressors, compiled for GPUs without a GPU."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="torch has no triton on this platform")


def test_every_kernel_compiles_without_a_fused_product_and_sum(tmp_path):
    """A fused product and sum is rounded once, and its result would differ from the CPU's."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.compile_kernels"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TRITON_CACHE_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, *compiled = map(json.loads, done.stdout.splitlines())
    for capability in (80, 90):
        names = {one["kernel"] for one in compiled if one["capability"] == capability}
        assert names == set(first["kernels"])
    assert all(one["size"] > 0 and one["fused"] == 0 for one in compiled), compiled
