"""Every figure comes with the facts that it depends on."""

import subprocess

import numpy
import pytest
import torch

from postnms.runs import provenance as module
from postnms.runs.provenance import provenance


def test_figures_come_with_command_seed_data_and_versions(tmp_path):
    about = provenance(7, tmp_path / "coco", "postnms eval run")
    assert (about["seed"], about["data"], about["command"]) == (7, "coco", "postnms eval run")
    assert (about["torch"], about["processes"]) == (torch.__version__, 1)
    assert "CPU cores" in about["machine"]
    assert about["libraries"]["numpy"] == numpy.__version__
    assert (provenance(0, None)["data"], provenance(0, None)["command"]) == ("built-in", None)


def test_a_package_that_lies_in_no_checkout_has_no_commit(monkeypatch):
    def outside(command, **_):
        raise subprocess.CalledProcessError(128, command)

    monkeypatch.setattr(module.subprocess, "run", outside)
    assert provenance(0, None)["commit"] is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: Some CPU: 2.1 GHz\nmodel name\t: Other\n",
            "Some CPU: 2.1 GHz",
        ),
        ("processor\t: 0\nCPU part\t: 0xd0c\n", ""),
        (None, "of the system"),
    ],
)
def test_the_machine_is_told_by_its_cpu(text, name, tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(module, "_CPUINFO", file)
    monkeypatch.setattr(module.platform, "processor", lambda: "of the system")
    parts = provenance(0, None)["machine"].split(", ")
    assert parts[1 : 1 + bool(name)] == [name] * bool(name)
    assert parts[1 + bool(name)].endswith("CPU cores")
