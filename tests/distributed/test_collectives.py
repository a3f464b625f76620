"""Without other processes, what they agree on is what this one has."""

import pytest
import torch

from postnms.distributed.collectives import (
    divisor,
    max_over_processes,
    mean_over_processes,
    world_size,
)

CPU = torch.device("cpu")


def test_one_process_agrees_with_itself():
    assert world_size() == 1
    assert mean_over_processes([0.25, 3], CPU) == [0.25, 3]
    assert max_over_processes([7, -2], CPU) == [7, -2]


@pytest.mark.parametrize(("count", "expected"), [(5.0, 5.0), (0.0, 1.0)])
def test_a_sum_over_no_rows_is_divided_by_one(count, expected):
    assert divisor(count, CPU) == expected
