"""The class encoding is the sinusoid of the paper."""

import math

import pytest
import torch

from postnms.errors import UserError
from postnms.stage.encoding import class_encoding


def test_class_encoding_by_hand():
    table = class_encoding(3, 4, base=1000)
    root = math.sqrt(1000)
    assert table[0].tolist() == [0, 1, 0, 1]
    expected = [math.sin(2), math.cos(2), math.sin(2 / root), math.cos(2 / root)]
    torch.testing.assert_close(table[2], torch.tensor(expected))
    with pytest.raises(
        UserError, match=r"class encoding: expected an even number of channels .*, got 5"
    ):
        class_encoding(3, 5)
