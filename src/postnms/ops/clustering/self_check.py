"""Whether the Triton kernels of ``cluster_nms`` may be used on a card of this machine.

The backend is ``eager`` until the kernels have given its results on small random scenes. That is
checked once for each machine, card, and version of torch, Triton and the kernels. A check that was
passed is noted in the user's cache: ``$XDG_CACHE_HOME/postnms``, or ``~/.cache/postnms``.

n: boxes.
"""

import hashlib
import json
import logging
import os
import platform
import time
import warnings
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from postnms.errors import UserError
from postnms.files.atomic import atomic_path
from postnms.ops.clustering import eager

logger = logging.getLogger(__name__)

# torch installs Triton on some operating systems only.
HAS_TRITON = find_spec("triton") is not None
SIZES = (1, 70, 700, 5000)
"""Numbers of boxes of the scenes. Those of the last one take more than one block."""
THRESHOLDS = (0.0, 1 / 3, 0.5)


@cache
def triton_passes(device: torch.device) -> bool:
    """Tell whether Triton gives the right results on the device, from a note or by a check.

    Triton needs a C compiler and a folder in which it may write. Where the check fails, a warning
    says why, and nothing is noted: the next process checks again.
    """
    if not HAS_TRITON:
        return False
    note = _note_of(device)
    if note.is_file():
        return True
    begin = time.perf_counter()
    failure = _failure(device)
    if failure is not None:
        warnings.warn(
            f"cluster_nms uses the slower backend 'eager' on {device}: Triton {failure}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    seconds = time.perf_counter() - begin
    logger.info("cluster_nms uses Triton on %s: it passed its check in %.1f s", device, seconds)
    try:
        with atomic_path(note) as temporary:
            temporary.write_text(json.dumps(_facts_of(device)))
    except UserError as error:
        logger.warning("%s; the next process has to check Triton again", error)
    return True


def _failure(device: torch.device) -> str | None:
    """Return what is wrong with the kernels on the device. None: they give the right results."""
    try:
        from postnms.ops.clustering import triton

        for boxes, scores, groups in _scenes():
            there = boxes.to(device), scores.to(device), groups.to(device)
            for threshold in THRESHOLDS:
                exact = torch.tensor(threshold, dtype=boxes.dtype, device="cpu").item()
                expected = eager.cluster_nms(boxes, scores, groups, exact)
                found = triton.cluster_nms(*there, exact)
                pairs = zip(found, expected, strict=True)
                if not all(torch.equal(mine.cpu(), theirs) for mine, theirs in pairs):
                    return f"gives another result for {len(boxes)} boxes of {boxes.dtype}"
    # Compilers and drivers raise errors of many kinds, and the warning names the one that came.
    except Exception as error:
        return f"failed with {type(error).__name__}: {error}"
    return None


def _scenes() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield boxes (n, 4), scores (n,) and groups (n,), on the CPU.

    The boxes lie on a grid and the scores have few levels, so that ties and exact thresholds are
    common.
    """
    random = torch.Generator().manual_seed(0)

    def integers(high: int, *size: int) -> Tensor:
        return torch.randint(high, size, generator=random, device="cpu")

    for count in SIZES:
        for dtype in (torch.float32, torch.float64):
            corner = integers(8 + int(count**0.5), count, 2)
            boxes = torch.cat([corner, corner + integers(9, count, 2)], dim=1).to(dtype)
            yield boxes, integers(50, count).to(dtype) / 50, integers(3, count)


def _facts_of(device: torch.device) -> list[str]:
    """Return what a check holds for."""
    card = str(device.type)
    if device.type == "cuda":
        card = f"{torch.cuda.get_device_name(device)} {torch.cuda.get_device_capability(device)}"
    kernels = Path(__file__).with_name("triton.py").read_bytes()
    return [
        platform.node(),
        card,
        torch.__version__,
        version("triton"),
        hashlib.sha256(kernels).hexdigest(),
    ]


def _note_of(device: torch.device) -> Path:
    """Return the file that notes a check that was passed."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # The standard of these folders says to pass over a path that is not absolute.
    folder = Path(given) if Path(given).is_absolute() else Path("~/.cache").expanduser()
    digest = hashlib.sha256(json.dumps(_facts_of(device)).encode()).hexdigest()
    return folder / "postnms" / f"triton-{digest[:16]}.json"
