"""Without other processes, what they agree on is what this one has."""

import pytest
import torch

from postnms.distributed import collectives
from postnms.distributed.collectives import (
    CountedLoss,
    divisor,
    max_over_processes,
    mean_over_processes,
    mean_over_rows,
    settle,
    world_size,
)
from tests.support.detectors import TARGETS, TWO, build

CPU = torch.device("cpu")


def test_one_process_agrees_with_itself():
    assert world_size() == 1
    assert mean_over_processes([0.25, 3], CPU) == [0.25, 3]
    assert max_over_processes([7, -2], CPU) == [7, -2]


@pytest.mark.parametrize(("count", "expected"), [(5.0, 5.0), (0.0, 1.0)])
def test_a_sum_over_no_rows_is_divided_by_one(count, expected):
    assert divisor(count, CPU) == expected


@pytest.fixture
def two_equal_processes(monkeypatch):
    """The reductions of a process that has an equal one beside it: the kind of each."""
    kinds = []

    def all_reduce(values, kind=torch.distributed.ReduceOp.SUM):
        kinds.append(kind)
        if kind == torch.distributed.ReduceOp.SUM:
            values *= 2

    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    return kinds


def test_the_counts_of_all_losses_are_reduced_together(two_equal_processes):
    three = torch.tensor(3.0)
    losses = {
        "scalar": three,
        "mean": mean_over_rows(three, 6),
        "none": mean_over_rows(0 * three, 0),
        "ratio": CountedLoss((4, 8), lambda first, second: three * first / second).times(2.0),
    }
    settled = settle(losses, CPU)
    assert {name: float(loss) for name, loss in settled.items()} == {
        "scalar": 3.0,
        "mean": 0.5,
        "none": 0.0,
        "ratio": 3.0,
    }
    assert len(two_equal_processes) == 1
    assert settle({"scalar": three}, CPU) == {"scalar": three}
    assert len(two_equal_processes) == 1


@pytest.mark.parametrize("name", ["faster_rcnn", "cascade_rcnn", "retinanet", "fcos"])
def test_a_step_reduces_the_size_of_its_images_and_its_counts_once_each(name, request):
    detector = build(name).eval()
    torch.manual_seed(0)
    alone = detector(TWO, TARGETS).losses
    kinds = request.getfixturevalue("two_equal_processes")
    torch.manual_seed(0)
    shared = detector(TWO, TARGETS).losses
    assert kinds == [torch.distributed.ReduceOp.MAX, torch.distributed.ReduceOp.SUM]
    torch.testing.assert_close(shared, alone)
