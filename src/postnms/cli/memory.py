"""How the process of the command line allocates memory."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Numbers of glibc's settings (mallopt(3))."""
_LARGEST = 2**30
"""Bytes of a block from which on it goes back to the operating system when it is freed."""
_OWN_SETTINGS = (
    "GLIBC_TUNABLES",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
)
"""Variables by which a user chooses these settings."""


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for what it allocates next.

    On a CPU each step of a training allocates its feature maps anew. Without this, glibc gives
    blocks of over 32 MiB back to the operating system as soon as they are free, which then clears
    the pages of the next one (docs/performance.md has what that costs). The process holds its peak
    of memory until it ends, apart from blocks of over 1 GiB.

    It is for a process that belongs to this library alone, so no function of the library calls it.
    Settings that the user has made by variables of the environment stay.

    Returns:
        Whether the settings were made. Other C libraries than glibc have none.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _OWN_SETTINGS):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    # Earlier releases of glibc take no threshold of over 32 MiB. They can leave mmap out instead.
    kept = library.mallopt(_MMAP_THRESHOLD, _LARGEST) or library.mallopt(_MMAP_MAX, 0)
    return bool(kept and library.mallopt(_TRIM_THRESHOLD, -1))
