"""Trackers by name, with stand-ins for the packages that are not installed."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from postnms.errors import UserError
from postnms.runs.folder import RunFolder
from postnms.training import trackers
from tests.support.runs import run, tiny


def test_tensorboard_is_the_default_and_none_writes_nothing(tmp_path):
    run(tmp_path / "board", tiny("training.iterations=1"))
    assert any((tmp_path / "board" / "tensorboard").rglob("events*"))
    run(tmp_path / "none", tiny("training.iterations=1", "training.trackers=[]"))
    assert not (tmp_path / "none" / "tensorboard").exists()


def test_a_missing_package_is_named_before_the_run_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "wandb" else name)
    recipe = tiny("training.iterations=1", 'training.trackers=["tensorboard","wandb"]')
    with pytest.raises(UserError, match=r"training\.trackers: 'wandb' needs the package wandb"):
        run(tmp_path / "run", recipe)
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_other_names_are_refused():
    with pytest.raises(UserError, match=r"training\.trackers.*tensorboard.*wandb.*mlflow"):
        tiny('training.trackers=["wandbb"]')


def test_values_reach_weights_and_biases(tmp_path, monkeypatch):
    logged, started = [], []
    wandb = ModuleType("wandb")
    wandb.init = lambda **options: (
        started.append(options)
        or SimpleNamespace(
            log=lambda values, step, **_: logged.append((step, values)),
            finish=lambda: logged.append("finished"),
        )
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    folder = tmp_path / "mine"
    run(folder, tiny("training.iterations=1", 'training.trackers=["wandb"]'))
    assert started == [{"project": "postnms", "name": "mine", "dir": str(folder)}]
    assert [step for step, _ in logged[:-1]] == [1, 1]
    assert "loss" in logged[0][1]
    assert "nms/AP" in logged[1][1]
    assert logged[-1] == "finished"


def test_mlflow_lists_the_run_by_its_folder(tmp_path, monkeypatch):
    built = []

    class Tracker:
        def __init__(self, experiment, run_name):
            built.append((experiment, run_name))

        def start(self):
            built.append("started")

    monkeypatch.setattr(trackers, "MLflowTracker", Tracker)
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    trackers.start_trackers(["mlflow"], RunFolder(tmp_path / "mine"))
    assert built == [("postnms", "mine"), "started"]
