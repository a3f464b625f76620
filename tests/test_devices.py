"""What keeps the host from waiting gives what the plain operations give."""

import torch

from postnms.devices import constant, number_of_each, repeated, rows_of

CPU = torch.device("cpu")


def test_constants_have_the_dtype_that_is_asked_for():
    made = constant([[1, 2], [3, 4]], torch.float32, CPU)
    assert (made.tolist(), made.dtype) == ([[1.0, 2.0], [3.0, 4.0]], torch.float32)


def test_rows_numbers_and_repeats_by_hand():
    assert rows_of(torch.tensor([False, True, True, False]), 2).tolist() == [1, 2]
    assert rows_of(torch.zeros(3, dtype=torch.bool), 0).tolist() == []
    assert number_of_each(torch.tensor([2, 0, 2]), 4).tolist() == [1, 0, 2, 0]
    assert number_of_each(torch.zeros(0, dtype=torch.int64), 2).tolist() == [0, 0]
    assert repeated([2, 0, 1], CPU).tolist() == [0, 0, 2]
    assert repeated([0], CPU).tolist() == []
