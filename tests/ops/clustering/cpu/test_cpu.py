"""The compiled backend on a million boxes, and on several threads."""

from itertools import pairwise

import pytest
import torch

from postnms.ops import cluster_nms
from postnms.ops.clustering import cpu as cpu_backend
from tests.support.clustering import random_scene


def a_million(kind):
    """Boxes, groups and number of keys at threshold 0.5."""
    count = 10**6
    row = torch.arange(count)
    corner = torch.stack([row % 1000, row // 1000], 1).float() * 10
    apart = torch.cat([corner, corner + 9], 1)
    alone = torch.zeros(count, dtype=torch.int64)
    return {
        "identical": (apart[:1].repeat(count, 1), alone, 1),
        "disjoint": (apart, alone, count),
        "each a group of its own": (apart[:1].repeat(count, 1), row, count),
        "without a width": (torch.cat([corner, corner + torch.tensor([0.0, 9])], 1), alone, count),
        "each twice": (apart[row // 2 * 2], alone, count // 2),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["identical", "disjoint", "each a group of its own", "without a width", "each twice"]
)
def test_a_million_boxes(kind):
    """Anything quadratic would take hours here."""
    boxes, groups, expected = a_million(kind)
    scores = torch.linspace(1, 0, len(boxes))
    keys, assignment = cluster_nms(boxes, scores, groups, 0.5)
    assert len(keys) == expected
    order = torch.argsort(scores, descending=True, stable=True)
    step = 2 if kind == "each twice" else 1
    assert torch.equal(keys, order[::step][:expected])
    owner = (
        torch.arange(len(boxes)) // step
        if expected > 1
        else torch.zeros(len(boxes), dtype=torch.int64)
    )
    assert torch.equal(assignment[order], owner)


def test_threads_share_groups_and_change_nothing(monkeypatch):
    scene = random_scene(3000, groups=7)
    expected = cluster_nms(*scene, 0.5, backend="reference")
    monkeypatch.setattr(cpu_backend, "THREADS_FROM", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    parts = []
    original = cpu_backend._shares
    monkeypatch.setattr(
        cpu_backend, "_shares", lambda *a: parts.extend(original(*a)) or original(*a)
    )
    found = cluster_nms(*scene, 0.5, backend="cpu")
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert len(parts) == 3
    assert [parts[0][0], parts[-1][1]] == [0, 7]
    assert all(before[1] == after[0] for before, after in pairwise(parts))
