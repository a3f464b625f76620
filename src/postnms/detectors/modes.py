"""Evaluation mode for the length of a block."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def as_at_test(module: nn.Module) -> Iterator[None]:
    """Run a part of a network in evaluation mode and without gradients, also during training.

    The mode of each submodule is restored afterwards.
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@contextmanager
def eval_mode(detector: nn.Module) -> Iterator[None]:
    """Put a whole detector into evaluation mode; its own mode is restored afterwards."""
    training = detector.training
    detector.eval()
    try:
        yield
    finally:
        detector.train(training)
