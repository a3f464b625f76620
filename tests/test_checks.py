"""Outputs of networks that are not finite are named."""

import pytest
import torch

from postnms.checks import check_outputs
from postnms.errors import UserError

GOOD = torch.tensor([[1.0, -3e38], [0.0, 3e38]])
FEATURES = {"0": torch.zeros(1, 2), "p6": GOOD}


@pytest.mark.parametrize("outputs", [{"scores": GOOD}, {}, {"scores": torch.zeros(0, 4)}])
def test_finite_outputs_pass_however_large_they_are(outputs):
    check_outputs("head", outputs, {"0": torch.full((1,), torch.nan)})


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_the_first_of_features_and_outputs_that_is_not_finite_is_named(value):
    bad = GOOD.clone()
    bad[1, 0] = value
    outputs = {"scores": GOOD, "nothing": torch.zeros(0), "deltas": bad}
    with pytest.raises(UserError, match=r"^head: deltas: 1 of 4 outputs are NaN or infinite: the "):
        check_outputs("head", outputs, FEATURES, GOOD)
    with pytest.raises(UserError, match=r"^backbone: feature map 'p6': 1 of 4 outputs are NaN or"):
        check_outputs("head", outputs, FEATURES | {"p6": bad}, GOOD)
    with pytest.raises(UserError, match=r"^images: expected finite pixels, got NaN or infinity$"):
        check_outputs("head", outputs, FEATURES | {"p6": bad}, bad)
