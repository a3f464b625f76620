"""``tune-fusion`` chooses weights on candidates, and ``compare`` takes the boxes of the stage."""

import json

import pytest


@pytest.fixture
def dumped(postnms, run_folder, tmp_path):
    """The candidates of a tiny run with the stage, on the val split of the scenes."""
    path = tmp_path / "c.safetensors"
    status, _, error = postnms("dump", run_folder, "--out", path)
    assert status == 0, error
    return path


def test_the_weights_of_the_run_give_its_own_row(postnms, run_folder, dumped, tmp_path):
    out = tmp_path / "tuned"
    words = ("--suppressor", "soft_nms_linear", "--steps", 2, "--out", out)
    status, shown, error = postnms("tune-fusion", dumped, *words)
    assert status == 0, error
    assert "highest: post_nms" in shown
    assert "--set 'stage.fusion=[" in shown
    assert "data.tuning_fraction" in shown  # The file is of the val split.
    rows = json.loads((out / "tune_fusion.json").read_text())["rows"]
    assert list(rows) == ["post_nms", "post_nms+soft_nms_linear"]
    assert postnms("eval", run_folder)[0] == 0
    metrics = json.loads((run_folder / "metrics.json").read_text())
    assert rows["post_nms"]["before"] == pytest.approx(metrics["post_nms"]["AP"], abs=0.02)
    # Without a folder nothing is written.
    before = sorted(tmp_path.rglob("*"))
    assert postnms("tune-fusion", dumped, "--suppressor", "nms", "--steps", 1)[0] == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_compare_takes_the_boxes_of_the_stage(postnms, dumped, tmp_path):
    words = ("--suppressor", "nms", "--bootstrap", 0, "--out", tmp_path / "out")
    status, shown, error = postnms("compare", dumped, *words, "--boxes", "refined")
    assert status == 0, error
    assert "refined nms" in shown
    status, _, error = postnms("compare", dumped, *words, "--fusion", "1,0,0")
    assert (status, "--fusion: expected --boxes refined or both" in error) == (2, True), error
    status, _, error = postnms("compare", dumped, *words, "--boxes", "both", "--fusion", "1,0")
    assert (status, "--fusion: expected three finite weights" in error) == (2, True), error
