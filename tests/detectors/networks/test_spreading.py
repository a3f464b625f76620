"""A batch gives the same losses and gradients on one process as spread over two."""

import pytest

from postnms.speed.timing import torch_threads
from tests.support.detectors import CASES
from tests.support.processes import finish, launched
from tests.support.spread import FURTHER, as_one_of_two, losses_and_gradients


@pytest.mark.slow
def test_losses_and_gradients_do_not_depend_on_the_number_of_processes(tmp_path):
    meeting = tmp_path / "meeting"
    second = launched(1, "tests.support.spread", meeting)
    with torch_threads(1):
        one = losses_and_gradients(0, 1)
        two = as_one_of_two(0, meeting)
    finish(second)
    assert list(one) == [*CASES, *FURTHER]
    for name, terms in one.items():
        assert len(terms) > 2, name
        assert terms["loss_stage_loc"] > 0, name
    assert two == {
        name: {term: pytest.approx(value, rel=2e-4, abs=1e-6) for term, value in terms.items()}
        for name, terms in one.items()
    }
