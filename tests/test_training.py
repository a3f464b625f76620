"""Short runs on a few tiny scenes: what is logged and written, exact resuming, and what stops a run."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
import torch
from accelerate.state import AcceleratorState

from postnms import training
from postnms.checkpoints import load_tensors
from postnms.cli import main
from postnms.data.scenes import write_scenes
from postnms.errors import UserError
from postnms.recipes import get_recipe
from postnms.runs import RunFolder, load_detector, read_categories
from postnms.splits import open_splits

TINY = [
    "data.scenes.train=6",
    "data.scenes.val=3",
    "data.scenes.size=64",
    "detector.min_size=64",
    "detector.backbone.fpn_channels=8",
    "detector.box_head_width=8",
    "detector.rpn_post_nms_top_n_train=50",
    "stage.width=8",
    "training.batch_size=2",
    "training.log_every=1",
    "training.warmup_iterations=2",
    "training.steps=[4]",
    "evaluation.bootstrap=20",
]
LOSSES = [f"loss_{name}" for name in ("classifier", "box_reg", "objectness", "rpn_box_reg", "stage_cls", "stage_loc")]


def tiny(*changes):
    return get_recipe("demo", [*TINY, *changes])


def run(folder, recipe, **options):
    return training.train(recipe, open_splits(recipe, None), RunFolder(folder), **options)[0]


def logged(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {row["iteration"]: {name: row[name] for name in LOSSES} for row in rows if "loss" in row}


@pytest.fixture(autouse=True)
def _one_process():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_run_logs_evaluates_and_leaves_its_weights(tmp_path, capsys):
    recipe = tiny("training.iterations=4", "training.evaluate_every=2", "training.checkpoint_every=3")
    detector = run(tmp_path, recipe)
    folder = RunFolder(tmp_path)
    rows = [json.loads(line) for line in folder.log.read_text().splitlines()]
    assert [row["iteration"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    assert [row["lr"] for row in rows if "loss" in row] == pytest.approx([2e-5, 0.01001, 0.02, 0.02])
    assert [row["iteration"] for row in rows if "nms/AP" in row] == [2, 4]
    assert folder.checkpoint.is_file()
    assert "iteration 2: nms AP" in capsys.readouterr().err
    assert any((tmp_path / "tensorboard").rglob("events*"))
    assert detector.training


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_resuming_continues_to_the_last_digit(tmp_path, precision):
    changes = ("training.iterations=6", "training.checkpoint_every=3", f"training.precision={precision}")
    whole = run(tmp_path / "whole", tiny(*changes))
    AcceleratorState._reset_state(reset_partial_state=True)

    interrupted = tmp_path / "interrupted"
    step = training.training_step
    calls = []

    def stop_in_the_fifth(*args):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return step(*args)

    training.training_step = stop_in_the_fifth
    try:
        with pytest.raises(KeyboardInterrupt):
            run(interrupted, tiny(*changes))
    finally:
        training.training_step = step
    assert list(logged(interrupted)) == [1, 2, 3, 4]
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.rand(7)  # another state of the generator
    resumed = run(interrupted, tiny(*changes), resume=True)
    assert logged(interrupted) == logged(tmp_path / "whole")
    for mine, theirs in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def start(processes, *words):
    """A command line as ``torchrun`` starts it: each process takes its part of every batch and of the val split."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    command = [sys.executable, "-m", "postnms", *map(str, words)]
    started = []
    for rank in range(processes):
        place = {**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **place}
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment))
    return started


def finish(started):
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_resumes_to_the_last_digit(tmp_path, processes):
    overrides = [*TINY, "training.iterations=40", "training.checkpoint_every=4"]
    sets = [part for override in overrides for part in ("--set", override)]
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    finish(start(processes, "train", "demo", *sets, "--out", whole.root))
    running = start(processes, "train", "demo", *sets, "--out", killed.root)
    while not killed.log.is_file() or killed.log.read_text().count("\n") < 10:
        assert running[0].poll() is None
        time.sleep(0.02)
    for process in running:
        process.kill()
        process.communicate()
    assert not killed.metrics.is_file()
    finish(start(processes, "train", "demo", *sets, "--out", killed.root, "--resume"))
    assert len(logged(whole.root)) == 40
    assert logged(killed.root) == logged(whole.root)
    assert whole.metrics.read_text() == killed.metrics.read_text()
    assert json.loads(whole.provenance.read_text())["processes"] == processes

    found = scores_by_image(whole)
    assert sum(map(len, found.values())) > 20
    finish(start(1, "eval", whole.root))
    assert scores_by_image(whole) == {image: pytest.approx(scores, rel=1e-4) for image, scores in found.items()}


def scores_by_image(folder):
    scores = {}
    for entry in json.loads(folder.results("post_nms").read_text()):
        scores.setdefault(entry["image_id"], []).append(entry["score"])
    return {image: sorted(values) for image, values in scores.items()}


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path):
    recipe = tiny("training.iterations=6", "training.checkpoint_every=1")
    step, calls = training.training_step, []

    def break_in_the_third(model, *args):
        calls.append(1)
        if len(calls) == 3:
            with torch.no_grad():
                model.stage.heads.objectness.bias.fill_(float("nan"))
        return step(model, *args)

    training.training_step = break_in_the_third
    try:
        with pytest.raises(UserError, match=r"iteration 2: a loss is not finite \(.*loss_stage_cls nan.*is kept"):
            run(tmp_path, recipe)
    finally:
        training.training_step = step
    kept = load_weights_of_checkpoint(tmp_path)
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())


def load_weights_of_checkpoint(folder):
    tensors, about = load_tensors(RunFolder(folder).checkpoint)
    assert about["finished"] == 2
    return tensors


@pytest.mark.parametrize("part", ["network.rpn.head.cls_logits", "network.roi_heads.box_predictor.bbox_pred"])
def test_whatever_breaks_first_the_losses_are_named(tmp_path, part):
    step = training.training_step

    def broken(model, *args):
        with torch.no_grad():
            model.get_submodule(part).bias.fill_(float("nan"))
        return step(model, *args)

    training.training_step = broken
    try:
        with pytest.raises(UserError, match=r"iteration 0: a loss is not finite \(loss_.* nan.*no checkpoint yet"):
            run(tmp_path, tiny("training.iterations=2"))
    finally:
        training.training_step = step


def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(tmp_path, monkeypatch):
    from accelerate import Accelerator

    def exploded(_accelerator, parameters, _norm):
        for parameter in parameters:
            parameter.grad.fill_(float("inf"))
        return torch.tensor(float("inf"))

    monkeypatch.setattr(Accelerator, "clip_grad_norm_", exploded)
    with pytest.raises(UserError, match=r"iteration 0: a loss is not finite \(.*gradient_norm inf\)"):
        run(tmp_path, tiny("training.iterations=2"))


def test_a_gradient_that_is_not_finite_is_seen_without_clipping(tmp_path, monkeypatch):
    kept = []

    def exploding(detector, config):
        weight = detector.network.rpn.head.cls_logits.weight
        weight.register_hook(lambda gradient: torch.full_like(gradient, float("nan")))
        kept.extend([weight, weight.detach().clone()])
        return build(detector, config)

    build = training.build_optimizer
    monkeypatch.setattr(training, "build_optimizer", exploding)
    with pytest.raises(UserError, match=r"iteration 0: a loss is not finite \(.*gradient_norm nan\)"):
        run(tmp_path, tiny("training.iterations=2", "training.clip_norm=null"))
    assert torch.equal(*kept)


def test_a_bad_image_is_one_line_also_from_a_worker(tmp_path):
    write_scenes(get_recipe("demo", TINY).data.scenes, 0, tmp_path)
    for path in (tmp_path / "images").glob("train*"):
        path.write_text("no image")
    recipe = tiny("training.iterations=2", "data.workers=1")
    with pytest.raises(UserError, match=r"^\S*train_0000\d\.png: cannot be read as an image \(.*\)$"):
        training.train(recipe, open_splits(recipe, tmp_path), RunFolder(tmp_path / "run"))


def test_a_val_split_without_objects_has_no_ap_and_stops_nothing(tmp_path, capsys):
    write_scenes(get_recipe("demo", TINY).data.scenes, 0, tmp_path)
    path = tmp_path / "instances_val.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    recipe = tiny("training.iterations=2", "training.evaluate_every=1")
    _, metrics = training.train(recipe, open_splits(recipe, tmp_path), RunFolder(tmp_path / "run"))
    assert metrics["nms"]["AP"] is metrics["gain"]["AP"] is None
    assert "iteration 1: nms AP -, post_nms AP -" in capsys.readouterr().err


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    run(tmp_path, tiny("training.iterations=1"))
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(UserError, match=r"checkpoint\.safetensors: of another recipe: stage\.width: 4 here, 8 there"):
        run(tmp_path, tiny("training.iterations=1", "stage.width=4"), resume=True)


def test_the_rate_of_the_stage_is_its_own():
    recipe = tiny("training.iterations=1", "training.stage_lr_factor=3")
    detector = training.build_run_detector(recipe, 5)
    optimizer = training.build_optimizer(detector, recipe.training)
    assert training.set_learning_rate(optimizer, 3, recipe.training) == 0.02
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in detector.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.06 if name.startswith("stage.") else 0.02)


def test_clipping_bounds_the_step():
    plain = ("training.momentum=0", "training.weight_decay=0", "training.stage_lr_factor=1")
    recipe = tiny("training.iterations=1", "training.clip_norm=0.001", *plain)
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    detector = training.build_run_detector(recipe, 5).train()
    optimizer = training.build_optimizer(detector, recipe.training)
    training.set_learning_rate(optimizer, 2, recipe.training)
    batch = next(training.training_batches(recipe, open_splits(recipe, None).train, 0, accelerator))
    before = [parameter.detach().clone() for parameter in detector.parameters()]
    training.training_step(detector, optimizer, batch, recipe.training, accelerator)
    moved = sum((p - b).square().sum() for p, b in zip(detector.parameters(), before, strict=True)).sqrt()
    assert moved.item() == pytest.approx(0.02 * 0.001, rel=1e-2)


def test_batches_do_not_depend_on_where_the_run_began():
    recipe = tiny("training.iterations=9")
    from accelerate import Accelerator

    data, accelerator = open_splits(recipe, None).train, Accelerator(cpu=True)
    whole = list(training.training_batches(recipe, data, 0, accelerator))
    tail = list(training.training_batches(recipe, data, 4, accelerator))
    assert len(whole) == 9
    for first, second in zip(whole[4:], tail, strict=True):
        assert first.image_ids == second.image_ids
        assert all(torch.equal(*pair) for pair in zip(first.images, second.images, strict=True))


def test_a_run_folder_is_read_back(tmp_path, monkeypatch, capsys):
    sets = [part for change in [*TINY, "training.iterations=2"] for part in ("--set", change)]
    monkeypatch.setattr(sys, "argv", ["postnms", "train", "demo", "--out", str(tmp_path), *sets])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    folder = RunFolder(tmp_path)
    assert json.loads(folder.provenance.read_text())["seed"] == 0
    assert [c.name for c in read_categories(folder)] == ["disc", "ring", "square", "triangle", "star"]
    assert not load_detector(folder).training
    assert sorted(json.loads(folder.metrics.read_text())) == ["gain", "nms", "post_nms"]
    assert "gain of post-NMS over NMS" in capsys.readouterr().out
    folder.weights.unlink()
    assert not load_detector(folder).training
