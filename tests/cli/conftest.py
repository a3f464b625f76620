"""Runs that the verbs may change: copies of the trained ones."""

import shutil

import pytest


@pytest.fixture
def copied(tmp_path_factory):
    """Copy a run to a folder of its own."""

    def copy(run):
        return shutil.copytree(run, tmp_path_factory.mktemp("copy") / "tiny")

    return copy


@pytest.fixture
def run_folder(copied, trained_run):
    """A tiny trained run with the stage."""
    return copied(trained_run)


@pytest.fixture(params=["with the stage", "without"])
def any_run(request, copied):
    """A tiny trained run, with the stage or without it."""
    name = "trained_bare_run" if request.param == "without" else "trained_run"
    return copied(request.getfixturevalue(name))
