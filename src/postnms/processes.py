"""The processes that a run is spread over, and the device of each; one process on one device is the usual case.

``accelerate launch -m postnms ...`` or ``torchrun --nproc-per-node N -m postnms ...`` start several. On a machine
without an accelerator they meet over gloo, but accelerate lets them meet only if it is told that the CPU is meant:
otherwise each would train alone, into the same folder.
"""

from typing import Any

import torch
from accelerate import Accelerator, PartialState


def this_process() -> PartialState:
    """This process: its number, how many there are, whether it is the main one, its device."""
    return PartialState(cpu=not torch.accelerator.is_available())


def get_accelerator(**options: Any) -> Accelerator:
    """The accelerator of this process, with further options of ``accelerate.Accelerator``."""
    return Accelerator(cpu=not torch.accelerator.is_available(), **options)
