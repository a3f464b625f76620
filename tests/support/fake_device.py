"""A device that says it is a GPU: its tensors are computed on the CPU, and waits are counted.

A wait is an operation for which the CPU has to stop until a GPU has finished all that it was given:
one that brings values to the host, one whose result has a length that depends on values, or a copy
from memory of the host that is not page-locked. Work between two waits is only handed over.

``WAITING`` lists the operations. An operation that mixes tensors of both devices raises, as it does
on a GPU.
"""

import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from postnms import checks
from postnms.ops import clustering
from tests.support.source import SOURCE

GPU = torch.device("cuda", 0)
aten = torch.ops.aten

WAITING = {
    **dict.fromkeys((aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal), 1),
    **dict.fromkeys((aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.allclose), 1),
    **dict.fromkeys((aten.histc, aten.is_nonzero, aten.item, aten.nonzero_numpy), 1),
    aten.bincount: 2,  # It reads the smallest and the largest value.
}
"""Waits of operations that always wait."""


class OnGPU(torch.Tensor):
    """A tensor that says it is on a GPU, and holds its values in a tensor on the CPU."""

    @staticmethod
    def __new__(cls, values):
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=GPU,
        )
        self.values_on_cpu = values
        return self

    def __repr__(self):
        return f"OnGPU({self.values_on_cpu!r})"

    def as_subclass(self, cls):
        return self  # This is the plain class of the device.

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func}: a tensor of the fake device is used outside of its mode")

    __torch_function__ = torch._C._disabled_torch_function_impl


@dataclass(frozen=True)
class Wait:
    """One wait of the host."""

    operation: str
    place: str
    """The innermost function of the library: ``stage/stage.py detect``."""
    rooms: frozenset[str]
    """Folders of the library that a function on the stack is in: ``stage``, ``ops/clustering``."""


class FakeDevice(TorchDispatchMode):
    """While this is entered, tensors can be moved to :data:`GPU`. ``waits`` lists the waits."""

    def __init__(self):
        super().__init__()
        self.waits = []
        self.pinned = {}  # It holds the tensors, so that no other one gets the id of one of them.

    def __enter__(self):
        torch._C._ensureCUDADeviceGuardSet()
        self._lifts_only = torch._C._only_lift_cpu_tensors()
        # torch.tensor(..., device="cuda") then makes a tensor on the CPU and moves it, which is
        # seen here. Otherwise it would look for a real GPU.
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(self._lifts_only)
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.ops.postnms.cluster_nms.default:
            with self:
                return clustering._cluster_nms(*args)
        if func is aten.is_pinned.default:
            return id(args[0]) in self.pinned
        if func is aten._pin_memory.default:
            pinned = args[0].clone()
            self.pinned[id(pinned)] = pinned
            return pinned
        given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        on_gpu = any(isinstance(x, OnGPU) for x in given)
        asked = kwargs.get("device")
        target = torch.device(asked) if asked is not None else GPU if on_gpu else None
        if target is not None and target.type == "cuda" and asked is not None:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)
        self._check_devices(func, args, given, on_gpu)
        self._count(func, args, kwargs, on_gpu, target)
        generator = kwargs.get("generator")
        assert generator is None or generator.device.type == "cpu"
        plain = tree_map_only(OnGPU, lambda x: x.values_on_cpu, (args, kwargs))
        result = func(*plain[0], **plain[1])
        return self._wrapped(func, args, kwargs, result, target)

    def _wrapped(self, func, args, kwargs, result, target):
        """Return the results on their device; what an operation has written to is returned."""
        packet = func.overloadpacket
        if packet is aten._local_scalar_dense or packet is aten.equal:
            return result
        written = [
            args[i] if i < len(args) else kwargs.get(argument.name)
            for i, argument in enumerate(func._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        returns = func._schema.returns
        if written and all(r.alias_info is not None and r.alias_info.is_write for r in returns):
            return written[0] if len(returns) == 1 else tuple(written)
        if target is None or target.type != "cuda":
            return result
        return tree_map_only(torch.Tensor, OnGPU, result)

    def _check_devices(self, func, args, given, on_gpu):
        """Raise as a GPU does where an operation gets tensors of both devices."""
        crosses = (aten._to_copy, aten.copy_, aten.index, aten.index_put_, aten.index_put)
        if not on_gpu or func.overloadpacket in crosses:
            return
        for tensor in given:
            if not isinstance(tensor, OnGPU) and tensor.ndim:
                raise RuntimeError(f"{func}: expected all tensors to be on the same device")

    def _count(self, func, args, kwargs, on_gpu, target):
        packet = func.overloadpacket
        count = WAITING.get(packet, 0) if on_gpu else 0
        if packet in (aten.index, aten.index_put_, aten.index_put) and isinstance(args[0], OnGPU):
            rows = [index for index in args[1] if index is not None]
            by_mask = any(index.dtype in (torch.bool, torch.uint8) for index in rows)
            # A single value of the host is written through the mask itself.
            is_fill = packet is not aten.index and not args[2].ndim and type(args[2]) is not OnGPU
            count = int(by_mask and not is_fill)
            count += sum(not isinstance(index, OnGPU) and index.ndim > 0 for index in rows)
        elif packet is aten.repeat_interleave and on_gpu:
            count = int(kwargs.get("output_size") is None)
        elif packet is aten._to_copy:
            leaves = on_gpu and target is not None and target.type == "cpu"
            enters = not on_gpu and target is not None and target.type == "cuda"
            if leaves or enters:
                count = self._waits_of_copy(args[0], kwargs.get("non_blocking"), leaves)
        elif packet is aten.copy_ and isinstance(args[0], OnGPU) != isinstance(args[1], OnGPU):
            non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking")
            count = self._waits_of_copy(args[1], non_blocking, isinstance(args[1], OnGPU))
        self.waits += [_wait(str(func))] * count

    def _waits_of_copy(self, source, non_blocking, leaves):
        return int(not non_blocking or not (leaves or id(source) in self.pinned))

    def beside_clustering(self):
        """Number of waits by the function of the library that waits, clustering left out."""
        return Counter(wait.place for wait in self.waits if "ops/clustering" not in wait.rooms)


def _wait(operation):
    frame, place, rooms = sys._getframe(), "", set()
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(f"{SOURCE}/"):
            path = file.removeprefix(f"{SOURCE}/")
            place = place or f"{path} {frame.f_code.co_name}"
            folder = path.rpartition("/")[0]
            rooms |= {folder, folder.partition("/")[0]}
        frame = frame.f_back
    return Wait(operation, place, frozenset(rooms))


def to_gpu(value):
    """Return tensors, and modules in place, on the fake device. It is entered. Nothing counts."""
    if isinstance(value, torch.nn.Module):
        for part in value.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    moved = OnGPU(parameter.detach())
                    part._parameters[name] = torch.nn.Parameter(moved, parameter.requires_grad)
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = OnGPU(buffer)
        return value
    return tree_map_only(torch.Tensor, OnGPU, value)


@contextmanager
def fake_device(monkeypatch):
    """A fake GPU on which clustering takes the backend ``eager``.

    What the library computes is not checked, as outside of tests.
    """
    monkeypatch.setattr(checks, "CHECKS_OWN_VALUES", False)
    monkeypatch.setattr(clustering, "_backend_of", lambda device: "eager")
    if not torch.cuda.is_available():
        # torch looks for a driver before it makes a tensor on such a device.
        monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    # cuDNN's operations have no counterpart on the CPU.
    with torch.backends.cudnn.flags(enabled=False), FakeDevice() as device:
        yield device
