"""A batch gives the same losses and gradients on one process as spread over two."""

import pytest
import torch

from tests.detectors.cases import CASES
from tests.detectors.spread import losses_and_gradients
from tests.test_resuming import finish, launched


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    path = tmp_path_factory.mktemp("spread") / "two.pt"
    finish(launched(2, "tests.detectors.spread", path))
    return torch.load(path), losses_and_gradients(0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CASES, "faster_rcnn frozen"])
def test_losses_and_gradients_do_not_depend_on_the_number_of_processes(name, spread):
    two, one = spread
    assert len(one[name]) > 2
    assert one[name]["loss_stage_loc"] > 0
    assert two[name] == {
        term: pytest.approx(value, rel=2e-4, abs=1e-6) for term, value in one[name].items()
    }
