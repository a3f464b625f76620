"""The command line keeps the memory that it frees, where the C library is glibc."""

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from postnms.cli.memory import _OWN_SETTINGS, keep_freed_memory

HAS_SETTINGS = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")
PROGRAM = """
import resource, sys
import torch
from postnms.cli.memory import keep_freed_memory

def faults(megabytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.empty(megabytes << 20, dtype=torch.uint8).fill_(1)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize()

made = keep_freed_memory()
faults(64)  # The first blocks find their places, between smaller ones that are there by chance.
print(made, faults(64) / 2**20)
"""


def in_new_process(**settings):
    """Whether the settings were made, and the MiB of new pages for 8 further blocks of 64 MiB."""
    env = {name: value for name, value in os.environ.items() if name not in _OWN_SETTINGS}
    call = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(call, env=env | settings, capture_output=True, text=True, check=True)
    made, pages = done.stdout.split()
    return made == "True", float(pages)


def test_memory_that_is_freed_is_used_again():
    made, pages = in_new_process()
    assert made == HAS_SETTINGS
    if made:
        assert pages < 10  # Of 512 MiB in all.


def test_settings_of_the_user_stay():
    made, pages = in_new_process(MALLOC_TRIM_THRESHOLD_="131072")
    assert not made
    if HAS_SETTINGS:
        assert pages > 500


@pytest.mark.parametrize(("refused", "made"), [((), {-3: 2**30, -1: -1}), ((-3,), {-4: 0, -1: -1})])
def test_an_old_glibc_leaves_mmap_out(monkeypatch, refused, made):
    asked = {}

    def mallopt(setting, value):
        if setting in refused:
            return 0
        asked[setting] = value
        return 1

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    for name in _OWN_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert keep_freed_memory()
    assert asked == made


@pytest.mark.parametrize(
    ("platform", "settings"),
    [("linux", {}), *[(other, {"mallopt": lambda *_: 1}) for other in ("darwin", "win32")]],
)
def test_other_systems_and_libraries_are_left_alone(monkeypatch, platform, settings):
    for name in _OWN_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(**settings))
    assert not keep_freed_memory()
