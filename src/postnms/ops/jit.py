"""How numba compiles the kernels of this library: every flavour by name, and a hint to the cache.

All flavours keep their machine code on disk and release Python's global lock while they run. None
is parallel by itself: :mod:`postnms.ops.threads` shares the work of a kernel among threads.

Kernels copy rows and slices in loops, and loops take the place of ``np.where``, ``np.outer`` and
the like. numba takes seconds to compile these or the assignment of a slice, as it checks shapes and
words errors, and what it compiles is no faster than a loop.
"""

from llvmlite import ir
from numba import njit, types
from numba.core.extending import intrinsic

exact = njit(cache=True, nogil=True, error_model="numpy")
"""Rounds after every operation, as numpy and torch do, and divides by zero as IEEE 754 says.

There is no fast-math: sums, products, quotients and comparisons equal those of the torch twins to
the last bit, so ties are the same. Only ``exp`` and powers may round differently.
"""

exact_inlined = njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
"""As ``exact``, but inlined into its caller.

It is for small parts of loops, where a call would cost more than the work.
"""

contracted = njit(cache=True, nogil=True, fastmath={"contract"})
"""May fuse a product and a sum into one instruction.

It is for sums whose last bit does not matter, such as those of RoIAlign.
"""

contracted_inlined = njit(cache=True, nogil=True, fastmath={"contract"}, forceinline=True)
"""As ``contracted``, but inlined into its caller."""


@intrinsic
def prefetch(typing_context, array, index):  # pragma: no cover: compiled
    """Ask for the cache line of an element of a contiguous array, without waiting for it."""

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
