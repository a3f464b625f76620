import pytest

from postnms.training.optimizer import learning_rate


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
