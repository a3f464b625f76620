"""Both sides of the benchmark of pooling do the same work."""

import torch

from postnms.speed import pooling
from postnms.speed.timing import Timing


def test_both_sides_pool_the_same_forward_and_back():
    sides = pooling._sides(2, 3, 64, 5)
    ours, theirs = sides["forward"]["ours"](), sides["forward"]["theirs"]()
    assert ours.shape == (10, 3, 7, 7)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    for one, other in zip(sides["backward"]["ours"](), sides["backward"]["theirs"](), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_rows_say_what_was_pooled(monkeypatch):
    calls = []

    def measure(sides, rounds, budget):
        calls.append((rounds, torch.get_num_threads()))
        return {name: Timing(1.0 + len(calls), rounds) for name in sides}

    monkeypatch.setattr(pooling, "measure", measure)
    forward, backward = pooling.compare_pooling([(2, 3, 64, 5)], rounds=4, threads=2)
    assert calls == [(4, 2), (4, 2)]
    assert (forward.boxes, forward.direction, forward.threads) == (10, "forward", 2)
    assert (backward.direction, backward.ours) == ("backward", Timing(3.0, 4))
