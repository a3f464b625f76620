"""The learning rate of every iteration, and of the stage beside the detector."""

import pytest

from postnms.runs.loading import build_run_detector
from postnms.training.optimizer import build_optimizer, learning_rate, set_learning_rate
from tests.support.runs import tiny


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
    assert learning_rate(iteration, 0.02, 10, 0.1, [60, 80], 0.1) == pytest.approx(expected)


def test_no_warm_up():
    assert learning_rate(0, 0.02, 0, 0.1, [], 0.1) == 0.02


def test_the_rate_of_the_stage_is_its_own():
    recipe = tiny("training.iterations=1", "training.stage_lr_factor=3")
    detector = build_run_detector(recipe, 5)
    optimizer = build_optimizer(detector, recipe.training)
    assert set_learning_rate(optimizer, 3, recipe.training) == 0.02
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in detector.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.06 if name.startswith("stage.") else 0.02)
