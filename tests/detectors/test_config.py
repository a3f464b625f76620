"""Settings that detectors share."""

import pytest

from postnms.detectors import FasterRCNNConfig
from postnms.errors import UserError


def test_one_anchor_size_a_level():
    with pytest.raises(UserError, match="expected 5 sizes, one a pyramid level, got 2"):
        FasterRCNNConfig.parse({"anchor_sizes": [8, 16]}, "detector")
