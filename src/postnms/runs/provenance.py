"""Where a figure comes from."""

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from postnms.distributed.processes import this_process


def provenance(seed: int, data: Path | None) -> dict[str, Any]:
    """Where a figure comes from. The commit is the package's own checkout's, null if it is not in one."""
    return {
        "command": _command(),
        "processes": this_process().num_processes,
        "commit": _commit(),
        "version": version("postnms"),
        "torch": torch.__version__,
        "machine": _machine(),
        "seed": seed,
        "data": "built-in" if data is None else data.name,
    }


def _command() -> str:
    program = Path(sys.argv[0])
    module = ["python", "-m", program.parent.name] if program.stem == "__main__" else None
    script = ["python", str(program)] if program.suffix == ".py" else [program.name]
    return shlex.join([*(module or script), *sys.argv[1:]])


def _machine() -> str:
    gpu = (
        f", {torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
        if torch.cuda.is_available()
        else ""
    )
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores{gpu}"


def _commit() -> str | None:
    git = ["git", "-C", str(Path(__file__).parent)]
    try:  # the package may also lie, untracked, in the checkout of something else
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True
        )
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
