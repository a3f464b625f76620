"""The processes of a run, and the device of each.

Usually a run is one process on one device. ``accelerate launch -m postnms ...`` and ``torchrun
--nproc-per-node N -m postnms ...`` start several. Without a GPU the processes communicate over
gloo. accelerate sets that up only when the CPU is requested explicitly. Otherwise every process
would train alone and write to the same folder.
"""

from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env

from postnms.errors import UserError


def this_process() -> PartialState:
    """Return the state of this process.

    It holds the number of the process, the number of all processes, whether this one is the main
    process, and its device.
    """
    return PartialState(cpu=_on_cpu())


def get_accelerator(**options: Any) -> Accelerator:
    """Return the accelerator of this process.

    ``options`` are passed on to ``accelerate.Accelerator``, except for ``cpu``, which is set here.
    """
    return Accelerator(cpu=_on_cpu(), **options)


def this_device() -> torch.device:
    """Return the device of this process."""
    return torch.device(this_process().device or "cpu")


def chosen_device(name: torch.device | str | None) -> torch.device:
    """Return a device by its name, such as ``cuda:1``. None: the device of this process.

    Raises UserError if this machine has no such device.
    """
    if name is None:
        return this_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        about = str(error).partition("\n")[0]
        raise UserError(f"cannot compute on {name!s} ({about})", argument="device") from error
    return device


def end_processes() -> None:
    """Leave the group of processes, once all of them have finished their common work."""
    this_process().destroy_process_group()


def _on_cpu() -> bool:
    """Return True without an accelerator, or if ``accelerate launch --cpu`` asks for the CPU."""
    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
