"""One step of training: how far it may go, and what stops it."""

import pytest
import torch
from accelerate import Accelerator

from postnms.errors import UserError
from postnms.files.tensor_files import load_tensors
from postnms.runs.folder import RunFolder
from postnms.runs.loading import build_run_detector
from postnms.training import loop as training
from postnms.training import phases
from postnms.training.optimizer import build_optimizer, set_learning_rate
from postnms.training.step import step_generators, training_step
from tests.support.runs import run, splits_of, tiny


@pytest.mark.parametrize("frozen", [False, True])
def test_clipping_bounds_the_step(frozen):
    """Gradients that were left on frozen weights do not count."""
    plain = ("training.momentum=0", "training.weight_decay=0", "training.stage_lr_factor=1")
    recipe = tiny("training.iterations=1", "training.clip_norm=0.001", *plain)
    accelerator = Accelerator(cpu=True)
    detector = build_run_detector(recipe, 5).train()
    for parameter in detector.parameters():
        parameter.grad = torch.full_like(parameter, 9.0)
    if frozen:
        detector.freeze()
    optimizer = build_optimizer(detector, recipe.training)
    set_learning_rate(optimizer, 0.02)
    batch = next(training.training_batches(recipe, splits_of(recipe).train, 1, 0, accelerator))
    before = [parameter.detach().clone() for parameter in detector.parameters()]
    training_step(detector, optimizer, batch, recipe.training, accelerator)
    pairs = zip(detector.parameters(), before, strict=True)
    moved = sum((now - then).square().sum() for now, then in pairs).sqrt()
    assert moved.item() == pytest.approx(0.02 * 0.001, rel=1e-2)


def test_the_gradient_of_parts_is_the_mean_of_theirs():
    recipe = tiny("training.iterations=1", "training.batch_size=4", "training.clip_norm=null")
    accelerator = Accelerator(cpu=True)
    splits = splits_of(recipe)
    batch = next(training.training_batches(recipe, splits.train, 1, 0, accelerator))
    torch.manual_seed(0)
    detector = build_run_detector(recipe, 5).train()
    optimizer = build_optimizer(detector, recipe.training)
    set_learning_rate(optimizer, 0.0)  # the weights stay, so the gradients can be compared

    def gradients(part, accumulation, first=0):
        draws = step_generators(0, 0, 4, accelerator)[first : first + len(part.images)]
        config = recipe.training.model_copy(update={"accumulation": accumulation})
        losses = training_step(detector, optimizer, part, config, accelerator, draws)
        parameters = dict(detector.named_parameters())
        return {n: p.grad.clone() for n, p in parameters.items() if p.grad is not None}, losses

    together, losses = gradients(batch, 2)
    parts = [gradients(batch.images_from(slice(i, i + 2)), 1, i) for i in (0, 2)]
    assert together.keys() == parts[0][0].keys() | parts[1][0].keys()
    for name, gradient in together.items():
        mean = sum(part.get(name, torch.zeros(())) for part, _ in parts) / 2
        torch.testing.assert_close(gradient, mean, rtol=1e-4, atol=1e-6)
    for name, loss in losses.items():
        assert loss == pytest.approx(float(sum(part[name] for _, part in parts)) / 2)


def test_a_part_of_a_batch_has_the_objects_of_its_images():
    recipe = tiny("training.iterations=1", "training.batch_size=4")
    batch = next(training.training_batches(recipe, splits_of(recipe).train, 1, 0, Accelerator()))
    part = batch.images_from(slice(1, 3))
    assert part.image_ids == batch.image_ids[1:3]
    assert len(part.images) == len(part.original_sizes) == part.targets.num_images == 2
    for position, image in enumerate((1, 2)):
        whole = batch.targets.boxes[batch.targets.image == image]
        assert torch.equal(part.targets.boxes[part.targets.image == position], whole)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 3), (2, 4)])
def test_parts_of_a_batch_are_equal(tmp_path, batch_size, accumulation):
    recipe = tiny(
        "training.iterations=1",
        f"training.batch_size={batch_size}",
        f"training.accumulation={accumulation}",
    )
    with pytest.raises(UserError, match=r"training\.accumulation: expected a divisor of the"):
        run(tmp_path, recipe)


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

    monkeypatch.setattr(phases, "build_optimizer", exploding)
    with pytest.raises(
        UserError, match=r"iteration 0: a loss is not finite \(.*gradient_norm nan\)"
    ):
        run(tmp_path, tiny("training.iterations=2", "training.clip_norm=null"))
    assert torch.equal(*kept)
