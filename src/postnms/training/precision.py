"""The precision that a step of training computes in, which depends on the device."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch
from torch import nn

from postnms.training.depthwise import depthwise_in_float32

Precision = Literal["float32", "bf16"]

logger = logging.getLogger(__name__)


def precision_on(device: torch.device, asked: Literal["auto"] | Precision) -> Precision:
    """Return the precision that ``training.precision`` stands for on a device.

    ``auto`` is bfloat16 where the device has instructions for it, else float32. A device without
    them emulates bfloat16, and a step takes many times as long.
    """
    if asked != "auto":
        return asked
    return "bf16" if has_bfloat16(device) else "float32"


@contextmanager
def computing_in(precision: Precision, network: nn.Module, device: torch.device) -> Iterator[None]:
    """Let the forward pass of a network compute in a precision, where it is safe to.

    Torch's autocast decides what is computed in bfloat16. On a CPU, depthwise convolutions are not,
    since they are slower in it.
    """
    if precision == "float32":
        yield
        return
    with torch.autocast(device.type, torch.bfloat16), depthwise_in_float32(network):
        yield


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16, and torch uses them."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _processor_has_bfloat16()


def warn_if_slow(device: torch.device, precision: Precision) -> None:
    """Warn that a training in bfloat16 will take very long, if the device is not made for it."""
    if precision == "bf16" and not has_bfloat16(device):
        logger.warning(
            "training.precision=bf16: this %s has no instructions for bfloat16, so a step takes "
            "many times as long as in float32; training.precision=auto takes the faster one",
            "processor" if device.type == "cpu" else "device",
        )


@cache
def _processor_has_bfloat16() -> bool:
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        # For example avx512_bf16 and amx_bf16 of x86, and those of ARM.
        return any(has is True for name, has in capabilities().items() if "bf16" in name)
    # Older releases of torch tell it of x86 alone, and not by a public name.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)
