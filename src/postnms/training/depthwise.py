"""Depthwise convolutions under autocast on the CPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn


@contextmanager
def depthwise_in_float32(network: nn.Module) -> Iterator[None]:
    """Let the depthwise convolutions of a network compute in float32 on a CPU, also under autocast.

    In bfloat16 their backward pass takes three to five times as long there. Other devices, and
    networks that are not under autocast, compute as before. Whose network it is does not matter:
    the layers are as they were when the context ends.
    """
    layers = [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
    ]
    own = [vars(layer).get("forward") for layer in layers]
    try:
        for layer in layers:
            # The layer keeps its class and the names of its weights.
            layer.forward = partial(_in_float32, layer.forward)
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            del layer.forward
            if forward is not None:
                layer.forward = forward


def _in_float32(forward: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
    if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return forward(input)
    with torch.autocast("cpu", enabled=False):
        return forward(input.float())
