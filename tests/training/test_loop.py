"""Short runs on a few tiny scenes: what is logged and written, and what the batches are."""

import gc
import json

import pytest
import torch
from accelerate import Accelerator

from postnms.data.scenes.generator import write_scenes
from postnms.errors import UserError
from postnms.runs.folder import RunFolder
from postnms.training import loop as training
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
    assert folder.checkpoint.is_file()
    assert "iteration 2: nms AP" in capsys.readouterr().err
    assert any((tmp_path / "tensorboard").rglob("events*"))
    assert detector.training


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
        training.train(recipe, splits_of(recipe, tmp_path), RunFolder(tmp_path / "run"))
    gc.collect()


def test_a_val_split_without_objects_has_no_ap_and_stops_nothing(tmp_path, capsys):
    recipe = tiny("training.iterations=2", "training.evaluate_every=1")
    write_scenes(recipe.data.scenes, 0, tmp_path)
    path = tmp_path / "instances_val.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    splits = splits_of(recipe, tmp_path)
    _, evaluation = training.train(recipe, splits, RunFolder(tmp_path / "run"))
    assert evaluation.rows["nms"]["AP"] is None
    assert evaluation.gain.AP is None
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
