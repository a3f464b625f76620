"""Every figure comes with the facts that it depends on."""

import subprocess

import torch

from postnms.runs import provenance as module
from postnms.runs.provenance import provenance


def test_figures_come_with_command_seed_data_and_versions(tmp_path):
    about = provenance(7, tmp_path / "coco", "postnms eval run")
    assert (about["seed"], about["data"], about["command"]) == (7, "coco", "postnms eval run")
    assert (about["torch"], about["processes"]) == (torch.__version__, 1)
    assert "CPU cores" in about["machine"]
    assert (provenance(0, None)["data"], provenance(0, None)["command"]) == ("built-in", None)


def test_a_package_that_lies_in_no_checkout_has_no_commit(monkeypatch):
    def outside(command, **_):
        raise subprocess.CalledProcessError(128, command)

    monkeypatch.setattr(module.subprocess, "run", outside)
    assert provenance(0, None)["commit"] is None
