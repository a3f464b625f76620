"""Evaluation mode for the length of a block."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def as_at_test(module: nn.Module) -> Iterator[None]:
    """Batch norm and dropout of a module as at test time and without gradients; its mode is restored afterwards."""
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
    """The detector as at test time; its mode is restored afterwards."""
    training = detector.training
    detector.eval()
    try:
        yield
    finally:
        detector.train(training)
