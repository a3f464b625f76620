"""How the kernels of ``cluster_nms`` are compiled."""

from llvmlite import ir
from numba import njit, types
from numba.core.extending import intrinsic

compiled = njit(cache=True, nogil=True, error_model="numpy")
"""Without fast-math, and with IEEE division by zero."""
inlined = njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
"""The same for small parts of loops, where passing arrays would cost more than the work."""


@intrinsic
def prefetch(typing_context, array, index):  # pragma: no cover: compiled
    """Ask for the cache line that the ``index``-th element of a contiguous array is in, without waiting for it."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        to_read, keep, as_data = number(0), number(3), number(1)
        builder.call(function, [pointer, to_read, keep, as_data])
        return context.get_dummy_value()

    return types.void(array, index), generate
