"""``python -m tests.support.compile_kernels``: compile all Triton kernels for two kinds of GPU.

No GPU is needed. The functions of the host run on a few boxes, and in place of each launch the
kernel is compiled, in every form that the launch can have. It prints one JSON object for each
compilation: the name of the kernel, the compute capability, the size of the code, and the number of
float32 products and sums that were fused.
"""

import json
import os
from itertools import chain

import torch

# The package ``tests.support`` chooses the interpreter, which compiles nothing.
os.environ.pop("TRITON_INTERPRET", None)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from postnms.ops.clustering import triton as clustering
from postnms.suppression.triton import (
    blocks,
    confluence,
    cp_cluster,
    matrix,
    merging,
    overlaps,
    soft,
    weighted_fusion,
)

CAPABILITIES = (80, 90)
COMPILED = set()
POINTERS = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int32: "*i32"}
POINTERS |= {torch.int64: "*i64"}
MODULES = (clustering, confluence, cp_cluster, matrix, merging, overlaps, soft, weighted_fusion)


def kernels():
    """Names of all kernels that are launched. The other functions are parts of them."""
    functions = chain.from_iterable(vars(module).values() for module in MODULES)
    launched = (one for one in functions if isinstance(one, JITFunction))
    return sorted({one.__name__ for one in launched if "tl.program_id" in one.src})


def compile_in_place_of_run(
    self, *arguments, grid, warmup, num_warps, enable_fp_fusion, **constants
):
    """Stand in for the launch of a kernel. Its first form is compiled for all capabilities."""
    names = [parameter.name for parameter in self.params]
    given = dict(zip(names, arguments, strict=False)) | constants
    fixed = {one.name: given[one.name] for one in self.params if one.is_constexpr}
    signature = {
        name: "constexpr" if name in fixed else type_of(value) for name, value in given.items()
    }
    name = self.__name__
    for capability in CAPABILITIES[-1:] if name in COMPILED else CAPABILITIES:
        compiled = triton.compile(
            ASTSource(self, signature, fixed),
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": num_warps, "enable_fp_fusion": enable_fp_fusion},
        )
        size, fused = len(compiled.asm["cubin"]), compiled.asm["ptx"].count("fma.rn.f32")
        print(json.dumps({"kernel": name, "capability": capability, "size": size, "fused": fused}))
    COMPILED.add(name)


def type_of(value):
    """The type of an argument in Triton's words."""
    if isinstance(value, torch.Tensor):
        return POINTERS[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def launch_all():
    """Call every function of the host in every form of its kernels."""
    count = 8
    columns, column = torch.zeros(4, count), torch.zeros(count)
    group, starts = torch.zeros(count, dtype=torch.int64), torch.tensor([0, count])
    groups = (columns, starts, group)
    clustering.BLOCK = 64
    for dtype in (torch.float32, torch.float64):
        boxes = torch.zeros(100, 4, dtype=dtype)
        clustering.cluster_nms(boxes, boxes[:, 0], torch.zeros(100, dtype=torch.int64), 0.5)
    numbers = (0.5, 0.5, 0.1, 1.0, 1.0)
    soft.soften(columns, starts, column, group, (1, *numbers), columns[:, :0])
    soft.soften(columns, starts, column, group, (2, *numbers), columns)
    overlaps.assign_owners(columns, starts, column, 1, 1.0, None)
    overlaps.assign_owners(columns, starts, column, 2, 0.5, group)
    overlaps.overlapping(*groups, group > 0, 0.5)
    for settings in ((0.7, 2, 0.5, 0.1, False), (0.7, 0, 0.5, 0.1, True)):
        confluence.select_by_confluence(*groups, column, group, settings, 2**32)
    weighted_fusion.assign_fused(columns, starts, column, 0.5)
    merging.merge_members(columns, group, 0.5, 1)
    for gaussian in (True, False):
        matrix.matrix_decay(*groups, gaussian=gaussian)
    for settings in ((0.5, 0.5, 0.1, True, True), (0.5, 0.5, 0.1, False, False)):
        cp_cluster.propagate(*groups, column, group, settings, group)


if __name__ == "__main__":
    # One candidate a thread, in place of four, compiles in half the time.
    blocks.BLOCK = 128
    JITFunction.run = compile_in_place_of_run
    print(json.dumps({"kernels": kernels()}))
    launch_all()
