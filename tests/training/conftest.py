"""How a step of a run is made to fail or to stop."""

import pytest

from postnms.training import loop as training


@pytest.fixture
def before_steps(monkeypatch):
    """Have a function called with the number of the step, from 1 on, and the model before it."""

    def call(act):
        step, calls = training.training_step, []

        def watched(model, *args):
            calls.append(1)
            act(len(calls), model)
            return step(model, *args)

        monkeypatch.setattr(training, "training_step", watched)

    return call
