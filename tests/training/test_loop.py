"""Short runs on a few tiny scenes: what is logged and written, and what the batches are."""

import gc
import json
import re
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from postnms.data.scenes.generator import write_scenes
from postnms.distributed.processes import get_accelerator
from postnms.errors import UserError
from postnms.evaluation.results import Evaluation
from postnms.runs.folder import RunFolder
from postnms.training import loop as training
from postnms.training import stopping
from postnms.training.report import TrainingReport
from postnms.training.schedule import schedule_of
from postnms.training.stopping import is_stopped
from tests.support.runs import run, splits_of, tiny


def test_a_run_logs_evaluates_and_leaves_its_weights(tmp_path, capsys):
    recipe = tiny(
        "training.iterations=4", "training.evaluate_every=2", "training.checkpoint_every=3"
    )
    detector = run(tmp_path, recipe)
    folder = RunFolder(tmp_path)
    rows = [json.loads(line) for line in folder.log.read_text().splitlines()]
    assert [row["iteration"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    assert [row["lr"] for row in rows if "loss" in row] == pytest.approx(
        [2e-5, 0.01001, 0.02, 0.02]
    )
    assert [row["iteration"] for row in rows if "nms/AP" in row] == [2, 4]
    # Resampling takes long, so only the figures that the run ends with have an interval.
    assert [row["iteration"] for row in rows if "gain of post_nms/AP" in row] == [2, 4]
    assert [row["iteration"] for row in rows if "gain of post_nms/low" in row] == [4]
    assert folder.checkpoint.is_file()
    assert "iteration 2: nms AP" in capsys.readouterr().err
    assert any((tmp_path / "tensorboard").rglob("events*"))
    assert detector.training


def test_the_line_below_the_bar_has_speed_rate_best_ap_and_memory(tmp_path):
    recipe = tiny("training.iterations=4", "training.evaluate_every=2").training
    (tmp_path / "log.jsonl").write_text(
        '{"iteration": 1, "nms/AP": 31.0, "post_nms/AP": 30.5}\n{"iteration": 2, "nms/AP": 90.0}\n'
    )
    accelerator = get_accelerator()
    folder = RunFolder(tmp_path)
    schedule = schedule_of(recipe, 3)
    with TrainingReport(folder, recipe, schedule, accelerator, 1) as report:
        report.step(1, {"loss_a": torch.tensor(1.5)}, 0.02)
        first = report.losses.plain
        for number, ap in enumerate((32.25, 31.0), 2):
            report.metrics(number, Evaluation({"nms": {"AP": 50.0}, "post_nms": {"AP": ap}}))
            report.step(number, {"loss_a": torch.tensor(1.0)}, 0.02)
        last = report.losses.plain
    form = r"loss {}: a {}\n\d+\.\d images/s, lr 0\.02, best AP {}, memory \d+ MiB"
    assert re.fullmatch(form.format("1.500", "1.500", "30.50"), first)
    assert re.fullmatch(form.format("1.000", "1.000", "32.25"), last)
    rows = [json.loads(line) for line in folder.log.read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    for row in steps:
        speed = recipe.batch_size / row["seconds_per_iteration"]
        assert row["images_per_second"] == pytest.approx(speed)
        assert 10 < row["memory_mib"] < 1e5
    assert [row["best_ap"] for row in rows if "best_ap" in row] == [32.25, 32.25]
    assert len(steps) == 3


def test_a_run_without_ap_yet_names_none(tmp_path):
    accelerator = get_accelerator()
    config = tiny("training.iterations=4").training
    schedule = schedule_of(config, 3)
    with TrainingReport(RunFolder(tmp_path), config, schedule, accelerator, 0) as report:
        report.step(0, {"loss_a": torch.tensor(1.0)}, 0.02)
        report.metrics(1, Evaluation({"nms": {"AP": None}}))
        report.step(1, {"loss_a": torch.tensor(1.0)}, 0.02)
        assert "best AP" not in report.losses.plain


def test_processes_agree_to_stop_where_a_line_of_the_log_is_due(monkeypatch):
    """Only one of two processes is asked, and both stop at the same iteration."""
    config = tiny("training.iterations=12", "training.log_every=4").training
    asked = []

    def largest(values, device):
        asked.append(values)
        return [max(values[0], int(len(asked) == 2))]

    monkeypatch.setattr(stopping, "max_over_processes", largest)
    pair = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    stopped = [i for i in range(1, 13) if is_stopped(lambda: False, i, config, pair)]
    assert (stopped, asked) == ([8], [[0], [0]])
    alone = SimpleNamespace(num_processes=1, device=torch.device("cpu"))
    stopped = [i for i in range(1, 13) if is_stopped(lambda: True, i, config, alone)]
    assert stopped == list(range(1, 12))


def test_a_bad_image_is_one_line_also_from_a_worker(tmp_path, monkeypatch):
    # The loader waits so many seconds for its worker in the garbage collection below.
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    recipe = tiny("training.iterations=2", "data.workers=1")
    write_scenes(recipe.data.scenes, 0, tmp_path)
    for path in (tmp_path / "images").glob("train*"):
        path.write_text("no image")
    with pytest.raises(
        UserError, match=r"^\S*train_0000\d\.png: cannot be read as an image \(.*\)$"
    ):
        training.train_splits(recipe, splits_of(recipe, tmp_path), RunFolder(tmp_path / "run"))
    gc.collect()


def test_a_val_split_without_objects_has_no_ap_and_stops_nothing(tmp_path, capsys):
    recipe = tiny("training.iterations=2", "training.evaluate_every=1")
    write_scenes(recipe.data.scenes, 0, tmp_path)
    path = tmp_path / "instances_val.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    splits = splits_of(recipe, tmp_path)
    _, evaluation = training.train_splits(recipe, splits, RunFolder(tmp_path / "run"))
    assert evaluation.rows["nms"]["AP"] is None
    assert evaluation.gains["post_nms"].AP is None
    assert "iteration 1: nms AP -, post_nms AP -" in capsys.readouterr().err


def test_batches_do_not_depend_on_where_the_run_began():
    recipe = tiny("training.iterations=9")
    data, accelerator = splits_of(recipe).train, Accelerator(cpu=True)
    whole = list(training.training_batches(recipe, data, 9, 0, accelerator))
    tail = list(training.training_batches(recipe, data, 9, 4, accelerator))
    assert len(whole) == 9
    for first, second in zip(whole[4:], tail, strict=True):
        assert first.image_ids == second.image_ids
        assert all(torch.equal(*pair) for pair in zip(first.images, second.images, strict=True))
