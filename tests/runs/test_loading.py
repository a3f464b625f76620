"""Detectors of runs: loaded from their folder, and started from the weights of other runs."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from postnms.errors import UserError
from postnms.recipes import get_recipe, parse_changes
from postnms.runs.folder import RunFolder
from postnms.runs.loading import load_detector
from postnms.training import loop as training
from tests.support.runs import TINY, run, tiny, weights_of


@pytest.fixture
def bare(trained_bare_run):
    """A run without the stage."""
    return RunFolder(trained_bare_run)


def network_of(folder):
    return weights_of(folder, "network.")


def test_a_detector_is_that_of_the_last_checkpoint_until_there_are_weights(trained_run, tmp_path):
    folder = RunFolder(shutil.copytree(trained_run, tmp_path / "run"))
    final = load_detector(folder)
    folder.weights.unlink()
    last = load_detector(folder)
    assert not final.training
    assert not last.training
    for mine, theirs in zip(last.state_dict().values(), final.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    "what", ["root", "weights", "checkpoint", "plain.safetensors", "plain.pth"]
)
def test_a_frozen_detector_stays_as_it_was_and_its_rows_too(bare, tmp_path, what):
    start = getattr(bare, what, None) or tmp_path / what
    if what == "plain.safetensors":
        save_file(network_of(bare), start)
    elif what == "plain.pth":
        torch.save(network_of(bare), start)
    recipe = tiny(
        "training.iterations=2", f"training.start_from={start}", "training.freeze=detector"
    )
    run(tmp_path / "run", recipe)
    folder = RunFolder(tmp_path / "run")
    before, after = network_of(bare), network_of(folder)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    rows = [json.loads(run.results("nms").read_text()) for run in (folder, bare)]
    assert rows[0] == rows[1]
    losses = json.loads(folder.log.read_text().splitlines()[0])
    assert {name for name in losses if name.startswith("loss_")} == {
        "loss_stage_cls",
        "loss_stage_loc",
    }
    assert load_detector(folder).stage is not None


def test_a_frozen_run_resumes_to_the_last_digit_without_what_it_started_from(
    bare, tmp_path, monkeypatch
):
    plain = tmp_path / "plain.safetensors"
    save_file(network_of(bare), plain)
    changes = (
        "training.iterations=4",
        "training.checkpoint_every=1",
        f"training.start_from={plain}",
    )
    recipe = tiny(*changes, "training.freeze=detector")
    run(tmp_path / "whole", recipe)
    step, calls = training.training_step, []

    def stop_in_the_third(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(training, "training_step", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", recipe)
    monkeypatch.undo()
    plain.unlink()
    run(tmp_path / "run", recipe, resume=True)
    whole, resumed = (RunFolder(tmp_path / name) for name in ("whole", "run"))
    rows = [json.loads(line) for line in resumed.log.read_text().splitlines()]
    assert sum("loss" in row for row in rows) == 4
    mine, theirs = weights_of(resumed), weights_of(whole)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_run_of_a_torchvision_model_is_evaluated_from_its_folder(tmp_path):
    model = {"kind": "torchvision", "model": "ssdlite320_mobilenet_v3_large"}
    tiny_models = [change for change in TINY if not change.startswith("detector.")]
    settings = [
        f"detector={json.dumps(model)}",
        "training.iterations=1",
        "training.precision=float32",
    ]
    recipe = get_recipe("demo", parse_changes([*tiny_models, *settings]))
    trained = run(tmp_path, recipe).eval()
    loaded = load_detector(RunFolder(tmp_path))
    image = [torch.rand(3, 64, 64)]
    with torch.no_grad():
        rows, again = trained(image).rows, loaded(image).rows
    assert len(rows["post_nms"].scores) > 0
    assert torch.equal(rows["post_nms"].boxes, again["post_nms"].boxes)


def test_the_stage_of_a_run_is_taken_too(trained_run, tmp_path):
    start = f"training.start_from={trained_run}"
    again = run(tmp_path / "again", tiny("training.iterations=1", "training.lr=1e-9", start))
    stage = weights_of(RunFolder(trained_run), "stage.")["heads.objectness_trunk.fc6.weight"]
    torch.testing.assert_close(
        again.stage.heads.objectness_trunk.fc6.weight, stage, rtol=1e-5, atol=1e-7
    )


def test_what_does_not_fit_is_named(bare, tmp_path):
    def refused(message, *changes, start=bare.root):
        recipe = tiny("training.iterations=1", f"training.start_from={start}", *changes)
        with pytest.raises(UserError, match=message):
            run(tmp_path / "run", recipe)
        assert not (tmp_path / "run" / "weights.safetensors").exists()

    refused(
        r"weights\.safetensors: .*fc6\.bias has shape \(8,\), expected \(9,\)",
        "detector.box_head_width=9",
    )
    refused(r"expected a file, got '.*nowhere'", start=tmp_path / "nowhere")
    refused(r"not a run folder \(no labels\.json\)", start=tmp_path)
    (tmp_path / "text.pth").write_text("no state dict")
    refused(
        r"training\.start_from: .*text\.pth is not a plain state dict", start=tmp_path / "text.pth"
    )
    other = RunFolder(tmp_path / "other")
    other.root.mkdir()
    labels = json.loads(bare.labels.read_text())
    other.labels.write_text(json.dumps(labels[:-1]))
    refused(r"labels\.json: the run was trained on other classes", start=other.root)
