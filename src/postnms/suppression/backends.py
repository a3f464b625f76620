"""The implementations of the suppressors, and which of them runs on a device.

This is the only place that chooses. A suppressor reads the choice from ``Ranked.backend``.
"""

from typing import Literal, get_args

import torch

from postnms.ops import clustering

Backend = Literal["cpu", "eager", "triton"]
"""Implementation of a suppressor. ``cpu``: kernels compiled by numba, for CPU tensors only.
``triton``: kernels compiled by Triton, for CUDA tensors only. ``eager``: torch operations on padded
groups, for tensors on any device."""


def chosen_backend(name: str | None, device: torch.device) -> Backend:
    """Return the backend that a caller names, or the fastest one for tensors on the device.

    Raises:
        ValueError: There is no such backend, or it cannot run on the device.
    """
    if name is None:
        if device.type == "cpu":
            return "cpu"
        return "triton" if uses_triton(device) else "eager"
    for backend in get_args(Backend):
        if name == backend:
            _check_device(backend, device)
            return backend
    raise ValueError(f"backend: expected 'cpu', 'eager', 'triton' or None, got {name!r}")


def uses_triton(device: torch.device) -> bool:
    """Return whether suppressors use their Triton kernels for tensors on a device.

    They do exactly where :func:`postnms.ops.cluster_nms` uses its own, which has been tried there.
    """
    return clustering._backend_of(device) == "triton"


def _check_device(backend: Backend, device: torch.device) -> None:
    """Raise ValueError if a backend cannot run on the device."""
    if backend == "cpu" and device.type != "cpu":
        raise ValueError(f"backend: 'cpu' needs CPU tensors, got candidates on {device}")
    if backend == "triton" and device.type != "cuda" and not clustering._interprets_triton():
        raise ValueError(f"backend: 'triton' needs CUDA tensors, got candidates on {device}")
