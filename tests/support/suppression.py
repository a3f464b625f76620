"""Suppressors on every backend that this machine can run, in Triton's interpreter without a GPU."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from postnms.structures import move

BACKENDS = ("cpu", "eager", *(["triton"] if find_spec("triton") else []))
"""All backends. Triton's interpreter is slow, so tests of many boxes leave ``triton`` out."""


def suppress_by(backend, rule, candidates, block=1):
    """Return the detections of a suppressor on one backend, on the CPU.

    ``block`` is the number of candidates that a program of a Triton kernel handles together. With 1
    every choice is between candidates of different blocks.
    """
    if backend != "triton":
        return rule(candidates, backend=backend)
    from postnms.suppression.triton import blocks

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", block)
        # Triton's interpreter computes in numpy, which warns where a GPU gives infinity in silence.
        with np.errstate(over="ignore", invalid="ignore"):
            return move(rule(move(candidates, device), backend=backend), "cpu")
