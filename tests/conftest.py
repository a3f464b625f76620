"""Fixtures that tests of several folders share."""

import os
import sys

import psutil
import pytest
import torch

from postnms import checks
from tests.support.runs import tiny_run
from tests.support.warm_up import warm_up

# Workers share the cores, so each test, and each process that it starts, computes on one thread.
# Tests of threads set their own number.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
# What the library computes is checked as if it came from a user.
checks.CHECKS_OWN_VALUES = True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One worker more than cores: some tests wait for processes that they have started."""
    return (psutil.cpu_count(logical=True) or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes():
    """Compile the kernels before the workers start."""
    warm_up()


def reset_processes():
    """Forget accelerate's state of this process, if anything has used it."""
    if "accelerate.state" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def one_process():
    """Every test begins as a process that no run has used."""
    yield
    reset_processes()


@pytest.fixture
def postnms(monkeypatch, capsys):
    """Run a command line; return the exit status, stdout and stderr."""
    from postnms.cli import main

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["postnms", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        reset_processes()
        return end.value.code, *capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """A tiny trained run with the stage, made once. Copy it (``run_folder``) to change it."""
    return tiny_run(tmp_path_factory)


@pytest.fixture(scope="session")
def trained_bare_run(tmp_path_factory):
    """A tiny trained run without the stage, made once."""
    return tiny_run(tmp_path_factory, "--set", "stage=null")
