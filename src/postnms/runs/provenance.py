"""Where a figure comes from: command, commit, versions, machine, seed and data."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from postnms.distributed.processes import this_process

LIBRARIES = ("torchvision", "numpy", "numba", "pillow")
"""Libraries besides torch whose version may change figures."""

BUILT_IN = "built-in"
"""Name of the built-in scenes."""

_CPUINFO = Path("/proc/cpuinfo")


def provenance(seed: int, data: Path | None, command: str | None = None) -> dict[str, Any]:
    """Return the facts that are written beside every figure.

    ``data`` is a file or folder, None the built-in data. ``command`` is the command line, None
    where Python called the library. The commit is that of the checkout that the package lies in,
    None if it lies in none.
    """
    return {
        "command": command,
        "processes": this_process().num_processes,
        "commit": _commit(),
        "version": version("postnms"),
        "torch": torch.__version__,
        "libraries": {name: version(name) for name in LIBRARIES},
        "machine": _machine(),
        "seed": seed,
        "data": BUILT_IN if data is None else data.name,
    }


def _machine() -> str:
    gpus = ""
    if torch.cuda.is_available():
        gpus = f", {torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    cores = f"{os.cpu_count()} CPU cores"
    kind = f"{platform.system()} {platform.machine()}"
    return ", ".join(filter(None, (kind, _processor(), cores))) + gpus


def _processor() -> str:
    """Return the name of the CPU, empty if the system does not tell it."""
    # Linux leaves platform.processor() empty or gives the architecture in it.
    if not _CPUINFO.is_file():
        return platform.processor()
    lines = _CPUINFO.read_text(errors="replace").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "")


def _commit() -> str | None:
    git = ["git", "-C", str(Path(__file__).parent)]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        # An installed package may lie, untracked, inside the checkout of something else.
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True
        )
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
