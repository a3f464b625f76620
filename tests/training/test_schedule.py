"""Lengths in iterations and epochs, and the learning rate of every iteration."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.errors import UserError
from postnms.recipes import TrainingConfig
from postnms.recipes.lengths import in_iterations
from postnms.training.schedule import schedule_of


def schedule(per_epoch=10, **settings):
    return schedule_of(TrainingConfig.parse(settings, "training"), per_epoch)


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [
        (0, 0.002),
        (5, 0.011),
        (10, 0.02),
        (59, 0.02),
        (60, 0.002),
        (79, 0.002),
        (80, 0.0002),
        (500, 0.0002),
    ],
)
def test_warm_up_then_steps(iteration, expected):
    found = schedule(
        iterations=600, lr=0.02, warmup_iterations=10, warmup_factor=0.1, steps=[60, 80]
    )
    assert found.learning_rate(iteration) == pytest.approx(expected)


def test_no_warm_up():
    assert schedule(iterations=9, lr=0.02, warmup_iterations=0).learning_rate(0) == 0.02


def test_a_cosine_is_that_of_torch():
    found = schedule(
        iterations=50, lr=0.3, warmup_iterations=0, schedule="cosine", final_lr_factor=0.1
    )
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], 0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.03)
    for iteration in range(50):
        assert found.learning_rate(iteration) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


def test_a_cosine_begins_after_warm_up():
    found = schedule(
        iterations=6, lr=1.0, warmup_iterations=2, warmup_factor=0.5, schedule="cosine"
    )
    rates = [found.learning_rate(iteration) for iteration in range(7)]
    quarter = (1 + math.cos(math.pi / 4)) / 2
    assert rates == pytest.approx([0.5, 0.75, 1.0, quarter, 0.5, 1 - quarter, 0.0])


def test_lengths_in_epochs():
    found = schedule(
        per_epoch=46,
        iterations="20 epochs",
        warmup_iterations="0.5 epochs",
        steps=["16 epochs", 900],
        checkpoint_every="1 epoch",
        evaluate_every="2.5epochs",
    )
    lengths = (found.iterations, found.warmup, found.steps, found.checkpoint_every)
    assert lengths == (920, 23, (736, 900), 46)
    assert found.evaluate_every == 115
    assert [n for n in range(921) if found.is_evaluated(n)] == [0, *range(115, 920, 115)]
    assert found.is_saved(46)
    assert found.is_saved(920)
    assert not found.is_saved(47)


@given(st.integers(1, 100), st.integers(1, 1000))
@settings(deadline=None)
def test_a_length_is_never_0_iterations(epochs, per_epoch):
    assert in_iterations(f"{epochs} epochs", per_epoch) == epochs * per_epoch
    assert in_iterations("0.001 epochs", per_epoch) == 1


@pytest.mark.parametrize(
    "length", ["20", "epochs", "-1 epochs", "0 epochs", "1e3 epochs", "", 0, 2.5, None]
)
def test_other_texts_are_refused(length):
    with pytest.raises(
        UserError,
        match=r"^training\.iterations: expected a number of iterations from 1 on or a text",
    ):
        schedule(iterations=length)
