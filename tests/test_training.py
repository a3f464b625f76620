"""Short runs on a few tiny scenes: what is logged and written, exact resuming, and what stops a run."""

import json
import sys

import pytest
import torch
from accelerate.state import AcceleratorState

from postnms.cli import main
from postnms.data.scenes.generator import write_scenes
from postnms.data.splits import open_splits
from postnms.errors import UserError
from postnms.recipes import get_recipe
from postnms.runs.checkpoints import load_tensors
from postnms.runs.folder import RunFolder, read_categories
from postnms.runs.loading import load_detector
from postnms.training import loop as training

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
LOSSES = [
    f"loss_{name}"
    for name in ("classifier", "box_reg", "objectness", "rpn_box_reg", "stage_cls", "stage_loc")
]


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
        with pytest.raises(
            UserError, match=r"iteration 2: a loss is not finite \(.*loss_stage_cls nan.*is kept"
        ):
            run(tmp_path, recipe)
    finally:
        training.training_step = step
    kept = load_weights_of_checkpoint(tmp_path)
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())


def load_weights_of_checkpoint(folder):
    tensors, about = load_tensors(RunFolder(folder).checkpoint)
    assert about["finished"] == 2
    return tensors


@pytest.mark.parametrize(
    "part", ["network.rpn.head.cls_logits", "network.roi_heads.box_predictor.bbox_pred"]
)
def test_whatever_breaks_first_the_losses_are_named(tmp_path, part):
    step = training.training_step

    def broken(model, *args):
        with torch.no_grad():
            model.get_submodule(part).bias.fill_(float("nan"))
        return step(model, *args)

    training.training_step = broken
    try:
        with pytest.raises(
            UserError, match=r"iteration 0: a loss is not finite \(loss_.* nan.*no checkpoint yet"
        ):
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
    with pytest.raises(
        UserError, match=r"iteration 0: a loss is not finite \(.*gradient_norm inf\)"
    ):
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
    with pytest.raises(
        UserError, match=r"iteration 0: a loss is not finite \(.*gradient_norm nan\)"
    ):
        run(tmp_path, tiny("training.iterations=2", "training.clip_norm=null"))
    assert torch.equal(*kept)


def test_a_bad_image_is_one_line_also_from_a_worker(tmp_path):
    write_scenes(get_recipe("demo", TINY).data.scenes, 0, tmp_path)
    for path in (tmp_path / "images").glob("train*"):
        path.write_text("no image")
    recipe = tiny("training.iterations=2", "data.workers=1")
    with pytest.raises(
        UserError, match=r"^\S*train_0000\d\.png: cannot be read as an image \(.*\)$"
    ):
        training.train(recipe, open_splits(recipe, tmp_path), RunFolder(tmp_path / "run"))


def test_a_val_split_without_objects_has_no_ap_and_stops_nothing(tmp_path, capsys):
    write_scenes(get_recipe("demo", TINY).data.scenes, 0, tmp_path)
    path = tmp_path / "instances_val.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    recipe = tiny("training.iterations=2", "training.evaluate_every=1")
    _, metrics = training.train(recipe, open_splits(recipe, tmp_path), RunFolder(tmp_path / "run"))
    assert metrics["nms"]["AP"] is metrics["gain"]["AP"] is None
    assert "iteration 1: nms AP -, post_nms AP -" in capsys.readouterr().err


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
    moved = sum(
        (p - b).square().sum() for p, b in zip(detector.parameters(), before, strict=True)
    ).sqrt()
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
    assert [c.name for c in read_categories(folder)] == [
        "disc",
        "ring",
        "square",
        "triangle",
        "star",
    ]
    assert not load_detector(folder).training
    assert sorted(json.loads(folder.metrics.read_text())) == ["gain", "nms", "post_nms"]
    assert "gain of post-NMS over NMS" in capsys.readouterr().out
    folder.weights.unlink()
    assert not load_detector(folder).training
