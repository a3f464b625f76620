"""Depthwise convolutions under autocast on the CPU."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn


def use_float32_on_cpu(network: nn.Module) -> None:
    """Let the depthwise convolutions of a network compute in float32 on a CPU, also under autocast.

    In bfloat16 their backward pass takes three to four times as long there. Other devices, and
    networks that are not under autocast, compute as before.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1:
            # The layer keeps its class and the names of its weights. A copy of the layer gets a
            # copy of this attribute, which is bound to the copied weights.
            layer.forward = partial(_in_float32, layer.forward)


def _in_float32(forward: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
    if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return forward(input)
    with torch.autocast("cpu", enabled=False):
        return forward(input.float())
