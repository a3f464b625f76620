"""``postnms train`` begins runs, and continues them on the data that they began with."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml

from postnms.cli.stopping import stop_on_signals
from postnms.runs.folder import RunFolder
from postnms.training import loop as training
from tests.support.runs import SETS, TINY, contents, logged, weights_of


def test_a_run_is_resumed_on_its_own_data_and_classes(postnms, tmp_path):
    run = tmp_path / "run"
    postnms("scenes", "--out", tmp_path / "s", "--train", 4, "--val", 2, "--size", 64)
    status, shown, _ = postnms("train", "demo", "--data", tmp_path / "s", "--out", run, *SETS)
    assert (status, "gain of post_nms over nms" in shown) == (0, True)
    before = contents(run)
    (run / "evaluation.json").write_text("{}")
    assert postnms("train", "--resume", run)[0] == 0
    assert contents(run) == before
    assert not (run / "evaluation.json").exists()
    about = json.loads((run / "provenance.json").read_text())
    assert about["data"] == about["resumed"][0]["data"] == "s"
    assert about["resumed"][0]["command"].endswith(f"--resume {run}")
    labels = run / "labels.json"
    labels.write_text(labels.read_text().replace("disc", "disk"))
    status, _, shown = postnms("train", "--resume", run)
    assert (status, "labels.json: the run was trained on other classes" in shown) == (2, True)
    assert "than those of the data: class 0 was '1 disk' and is '1 disc'" in shown


def test_what_is_not_frozen_is_trained_on_from_there(postnms, trained_bare_run, tmp_path):
    out = tmp_path / "run"
    start = ("--from", trained_bare_run, "--freeze", "none")
    one_step = (*SETS, "--set", "training.iterations=1")
    assert postnms("train", "demo", "--out", out, *start, *one_step)[0] == 0
    folder = RunFolder(out)
    before = weights_of(RunFolder(trained_bare_run), "network.")
    after = weights_of(folder, "network.")
    moved = [(after[name] - before[name]).abs().max() for name in before if name.endswith("weight")]
    assert 0 < max(moved) < 0.01
    recipe = json.loads(folder.recipe.read_text())
    assert recipe["training"]["start_from"] == str(trained_bare_run)
    assert recipe["training"]["freeze"] == "none"


def test_a_split_without_images_is_not_trained_on(postnms, tmp_path):
    postnms("scenes", "--out", tmp_path / "s", "--train", 0, "--val", 2, "--size", 64)
    status, _, shown = postnms(
        "train", "demo", "--data", tmp_path / "s", "--out", tmp_path / "run", *SETS
    )
    assert status == 2
    assert "instances_train.json: images: expected at least one, got none" in shown


def test_a_finished_run_is_not_overwritten_without_its_checkpoint_either(postnms, run_folder):
    (run_folder / "checkpoint.safetensors").unlink()
    status, _, shown = postnms("train", "demo", "--out", run_folder)
    assert (status, "holds a run already" in shown) == (2, True)
    assert (run_folder / "weights.safetensors").is_file()


def test_a_run_that_was_killed_between_two_renamings_is_not_overwritten(postnms, run_folder):
    (run_folder / "weights.safetensors").unlink()
    older = (run_folder / "checkpoint.safetensors").rename(
        run_folder / "checkpoint.older.safetensors"
    )
    status, _, shown = postnms("train", "demo", "--out", run_folder)
    assert (status, "holds a run already" in shown) == (2, True)
    assert older.is_file()
    assert RunFolder(run_folder).newest_weights == older


def test_train_does_not_write_into_a_folder_that_is_no_run(postnms, tmp_path):
    (tmp_path / "metrics.json").write_text("mine")
    for verb in (("train", "demo"), ("demo",)):
        status, _, shown = postnms(*verb, "--out", tmp_path, *SETS)
        assert (
            status,
            "holds files, and is not a run (no recipe.json of this library)" in shown,
        ) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_a_recipe_file_is_trained(postnms, tmp_path):
    file = tmp_path / "mine.yaml"
    nested = {"base": "demo", "training": {"iterations": 1, "batch_size": 2}, "stage": {"width": 8}}
    file.write_text(yaml.safe_dump(nested))
    sets = [part for change in TINY if "stage" not in change for part in ("--set", change)]
    assert postnms("train", file, "--out", tmp_path / "run", *sets)[0] == 0
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["name"] == "mine"
    assert recipe["training"]["iterations"] == 1
    assert recipe["stage"]["width"] == 8
    file.write_text("base: demo\ntraining:\n  iteratons: 3\n")
    status, _, shown = postnms("train", file, "--out", tmp_path / "other")
    hint = "no such field (did you mean 'iterations'?)"
    assert (status, shown) == (
        2,
        f"postnms: {file}, line 3: training.iteratons: {hint}\n",
    )


def test_resume_needs_the_run_and_nothing_else(postnms, run_folder):
    for words in (("demo", "--out", run_folder, "--resume"), ("demo", "--resume", "--out", "x")):
        status, _, shown = postnms("train", *words)
        expected = "--resume: expected the folder of a run: postnms train --resume RUN"
        assert (status, shown) == (2, f"postnms: {expected}\n")
    for words, word in ((("demo",), "RECIPE"), (("--out", "x"), "--out")):
        status, _, shown = postnms("train", *words, "--resume", run_folder)
        assert (status, f"leave out {word}: postnms train --resume {run_folder}" in shown) == (
            2,
            True,
        )
    for words in ((), ("--out", "x")):
        status, _, shown = postnms("train", *words)
        assert status == 2
        assert "expected RECIPE for a new run, or --resume RUN" in shown


LONG = ["training.iterations=8", "training.evaluate_every=99", "training.checkpoint_every=99"]
"""A run that makes no checkpoint before its end, unless it is stopped."""


def ignores(process, number):
    """Return whether a process ignores a signal, as Linux says it."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (mask,) = (line.split()[1] for line in lines if line.startswith("SigIgn:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_a_run_that_a_signal_stops_goes_on_to_the_last_digit(postnms, tmp_path, monkeypatch):
    sets = [part for change in [*TINY, *LONG] for part in ("--set", change)]
    assert postnms("train", "demo", "--out", tmp_path / "whole", *sets)[0] == 0
    step, calls, ignored = training.training_step, [], []
    signals = {5: signal.SIGINT, 7: signal.SIGTERM}

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 1:
            # A terminal sends Ctrl-C to the worker of the loader too, whose batches are needed on.
            (worker,) = multiprocessing.active_children()
            ignored.append(ignores(worker.pid, signal.SIGINT))
            os.kill(worker.pid, signal.SIGINT)
        if number := signals.get(len(calls)):
            signal.raise_signal(number)
        return step(*args)

    monkeypatch.setattr(training, "training_step", interrupted)
    run = tmp_path / "run"
    resume = ("train", "--resume", run)
    words = ("train", "demo", "--out", run, *sets, "--set", "data.workers=1")
    for finished, number in signals.items():
        status, _, shown = postnms(*words)
        assert status == 128 + number
        line = f"stopped after iteration {finished} of 8; go on with: postnms train --resume {run}"
        assert line in shown.splitlines()
        assert list(logged(run)) == list(range(1, finished + 1))
        words = resume
    assert postnms(*resume)[0] == 0
    assert ignored == [True]
    assert logged(run) == logged(tmp_path / "whole")
    assert contents(run) == contents(tmp_path / "whole")
    weights = [weights_of(RunFolder(tmp_path / name)) for name in ("run", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_a_second_signal_ends_at_once(capsys):
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals(several=False) as stop:
        assert not stop()
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        with pytest.raises(SystemExit) as end:
            signal.raise_signal(signal.SIGINT)
    assert end.value.code == 130
    assert stop.number == signal.SIGTERM
    assert "once more: stop at once" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_several_processes_leave_a_second_signal_to_their_launcher():
    with stop_on_signals(several=True) as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stop()


def test_without_out_a_run_gets_a_folder_of_its_own(postnms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "mine.json"
    status, _, _ = postnms("recipes", "show", "demo", "--out", recipe)
    assert status == 0
    one_step = (*SETS, "--set", "training.iterations=1")
    for name in ("mine", "mine_2"):
        status, shown, error = postnms("train", recipe, *one_step)
        assert status == 0, error
        assert f"run folder: runs/{name}\n" in shown
        assert RunFolder(tmp_path / "runs" / name).weights.is_file()
