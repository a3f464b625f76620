"""Calls are timed in turns, within a budget, and on a number of threads."""

import pytest
import torch

from postnms.speed import timing
from postnms.speed.timing import Timing, measure, milliseconds, torch_threads


@pytest.fixture
def clock(monkeypatch):
    """Sides that take the seconds that they are given, call by call; and who was called."""
    now, called = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def side(name, *seconds):
        left = iter(seconds)

        def call():
            called.append(name)
            now[0] += next(left)

        return call

    return side, called


def test_sides_take_turns_and_the_median_after_the_warm_up_counts(clock):
    side, called = clock
    found = measure(
        {"a": side("a", 9, 1, 7, 2), "b": side("b", 0, 5, 5, 5)}, rounds=3, warmup=1, budget=100
    )
    assert "".join(called) == "abababab"
    assert found == {"a": Timing(2000, 3), "b": Timing(5000, 3)}


def test_a_side_out_of_budget_is_left_with_what_it_has(clock):
    side, called = clock
    sides = {
        "slow": side("slow", 1, 4, 8, 9),
        "slower": side("slower", 30),
        "quick": side("quick", *[0.5] * 5),
    }
    found = measure(sides, rounds=3, warmup=2, budget=10)
    assert found == {"slow": Timing(8000, 1), "slower": Timing(30_000, 1), "quick": Timing(500, 3)}
    assert [called.count(name) for name in sides] == [3, 1, 5]


def test_without_a_budget_all_rounds_are_taken(clock):
    side, called = clock
    assert milliseconds({"slow": side("slow", *[1000] * 5)}, rounds=3) == {"slow": 1_000_000}
    assert len(called) == 5


def test_threads_are_given_back_after_a_failure_too():
    before, seen = torch.get_num_threads(), []

    def fail():
        seen.append(torch.get_num_threads())
        raise KeyError

    with pytest.raises(KeyError), torch_threads(before + 1):
        fail()
    assert (seen, torch.get_num_threads()) == ([before + 1], before)
