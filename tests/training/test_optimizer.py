"""The learning rate of the stage beside that of the detector."""

import pytest

from postnms.runs.loading import build_run_detector
from postnms.training.optimizer import build_optimizer, set_learning_rate
from tests.support.runs import tiny


def test_the_rate_of_the_stage_is_its_own():
    recipe = tiny("training.iterations=1", "training.stage_lr_factor=3")
    detector = build_run_detector(recipe, 5)
    optimizer = build_optimizer(detector, recipe.training)
    set_learning_rate(optimizer, 0.02)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in detector.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.06 if name.startswith("stage.") else 0.02)
