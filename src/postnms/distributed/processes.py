"""The processes that a run is spread over, and the device of each; one process on one device is the usual case.

``accelerate launch -m postnms ...`` or ``torchrun --nproc-per-node N -m postnms ...`` start several. On a machine
without an accelerator they meet over gloo, but accelerate lets them meet only if it is told that the CPU is meant:
otherwise each would train alone, into the same folder.
"""

from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env


def this_process() -> PartialState:
    """This process: its number, how many there are, whether it is the main one, its device."""
    return PartialState(cpu=_on_cpu())


def get_accelerator(**options: Any) -> Accelerator:
    """The accelerator of this process, with further options of ``accelerate.Accelerator``."""
    return Accelerator(cpu=_on_cpu(), **options)


def _on_cpu() -> bool:
    """There is nothing else, or ``accelerate launch --cpu`` wants it so."""
    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
