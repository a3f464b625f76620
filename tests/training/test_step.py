"""One step of training: how far it may go, and what stops it."""

import pytest
import torch
from accelerate import Accelerator

from postnms.errors import UserError
from postnms.files.tensor_files import load_tensors
from postnms.runs.folder import RunFolder
from postnms.runs.loading import build_run_detector
from postnms.training import loop as training
from postnms.training.optimizer import build_optimizer, set_learning_rate
from postnms.training.step import training_step
from tests.support.runs import run, splits_of, tiny


def test_clipping_bounds_the_step():
    plain = ("training.momentum=0", "training.weight_decay=0", "training.stage_lr_factor=1")
    recipe = tiny("training.iterations=1", "training.clip_norm=0.001", *plain)
    accelerator = Accelerator(cpu=True)
    detector = build_run_detector(recipe, 5).train()
    optimizer = build_optimizer(detector, recipe.training)
    set_learning_rate(optimizer, 2, recipe.training)
    batch = next(training.training_batches(recipe, splits_of(recipe).train, 0, accelerator))
    before = [parameter.detach().clone() for parameter in detector.parameters()]
    training_step(detector, optimizer, batch, recipe.training, accelerator)
    pairs = zip(detector.parameters(), before, strict=True)
    moved = sum((now - then).square().sum() for now, then in pairs).sqrt()
    assert moved.item() == pytest.approx(0.02 * 0.001, rel=1e-2)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path, before_steps):
    @torch.no_grad()
    def break_in_the_third(number, model):
        if number == 3:
            model.stage.heads.objectness.bias.fill_(float("nan"))

    before_steps(break_in_the_third)
    recipe = tiny("training.iterations=6", "training.checkpoint_every=1")
    with pytest.raises(
        UserError, match=r"iteration 2: a loss is not finite \(.*loss_stage_cls nan.*is kept"
    ):
        run(tmp_path, recipe)
    kept, about = load_tensors(RunFolder(tmp_path).checkpoint)
    assert about["finished"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())


@pytest.mark.parametrize(
    "part", ["network.rpn.head.cls_logits", "network.roi_heads.box_predictor.bbox_pred"]
)
def test_whatever_breaks_first_the_losses_are_named(tmp_path, before_steps, part):
    @torch.no_grad()
    def break_it(_, model):
        model.get_submodule(part).bias.fill_(float("nan"))

    before_steps(break_it)
    with pytest.raises(
        UserError, match=r"iteration 0: a loss is not finite \(loss_.* nan.*no checkpoint yet"
    ):
        run(tmp_path, tiny("training.iterations=2"))


def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(tmp_path, monkeypatch):
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
        return build_optimizer(detector, config)

    monkeypatch.setattr(training, "build_optimizer", exploding)
    with pytest.raises(
        UserError, match=r"iteration 0: a loss is not finite \(.*gradient_norm nan\)"
    ):
        run(tmp_path, tiny("training.iterations=2", "training.clip_norm=null"))
    assert torch.equal(*kept)
