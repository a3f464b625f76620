"""Heads beside the stage, from the command line: trained on a run, dumped and compared."""

import json

import pytest
import torch

from postnms.files.tensor_files import load_tensors
from postnms.runs.folder import RunFolder
from tests.support.runs import TINY

HEADS = [
    "heads.iou.width=8",
    "heads.iou.refine_steps=2",
    "heads.density.width=8",
    "heads.samples=16",
    "suppressors=soft_nms_linear",
    "training.iterations=3",
    "training.steps=[]",
]


@pytest.fixture
def with_heads(postnms, trained_run, tmp_path):
    """A run that adds heads to a trained run, whose detector and stage stay as they are."""
    sets = [word for change in [*TINY, *HEADS] for word in ("--set", change)]
    out = tmp_path / "heads"
    words = ("train", "demo", "--from", trained_run, "--freeze", "detector_and_stage")
    status, _, error = postnms(*words, *sets, "--out", out)
    assert status == 0, error
    return RunFolder(out)


def test_heads_are_trained_on_a_run_and_change_nothing_else(
    postnms, with_heads, trained_run, tmp_path
):
    here, there = (
        load_tensors(RunFolder(root).weights)[0] for root in (with_heads.root, trained_run)
    )
    new = here.keys() - there.keys()
    assert new
    assert all(name.startswith(("model.heads.iou.", "model.heads.density.")) for name in new)
    assert all(torch.equal(here[name], tensor) for name, tensor in there.items())
    metrics = json.loads(with_heads.metrics.read_text())
    rows = ["nms", "soft_nms_linear", "iou_guided_nms", "iou_net", "adaptive_nms", "post_nms"]
    assert [name for name in metrics if name in rows] == rows
    file = tmp_path / "c.safetensors"
    assert postnms("dump", with_heads.root, "--out", file)[0] == 0
    words = ("compare", file, "--suppressor", "iou_guided_nms,adaptive_nms", "--bootstrap", 0)
    status, _, error = postnms(*words, "--out", tmp_path / "compared")
    assert status == 0, error
    compared = json.loads((tmp_path / "compared" / "compare.json").read_text())
    recall = {row["name"]: row["figures"]["AR100"] for row in compared["rows"]}
    for name in ("iou_guided_nms", "adaptive_nms"):
        assert recall[name] == pytest.approx(recall[f"run {name}"], abs=1e-9)
        assert recall[name] == pytest.approx(metrics[name]["AR100"], abs=1e-9)
        assert recall[name] > 0
    assert "run iou_net" in recall


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--freeze", "detector_and_stage"], "leaves nothing to train without heads"),
        (["--set", "suppressors=soft"], "no 'soft'"),
        (["--set", "suppressors=soft_nms_linear,soft_nms_linear:iou=0.4"], "different names"),
        (["--set", "heads.iou.width=0"], "heads.iou.width"),
        (["--set", "heads.iuo={}"], "heads.iuo"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(postnms, trained_run, tmp_path, changes, message):
    sets = [word for change in TINY for word in ("--set", change)]
    words = ("train", "demo", "--from", trained_run, *changes, *sets, "--out", tmp_path / "no")
    status, _, error = postnms(*words)
    assert status == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "no" / "weights.safetensors").exists()
