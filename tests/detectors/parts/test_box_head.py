"""The losses of a box head by hand."""

import math

import pytest
import torch

from postnms.detectors.parts.box_head import HeadSample, Predictions, head_losses
from postnms.distributed.collectives import settle

BOXES = [torch.zeros(3, 4)]
SAMPLE = HeadSample(
    BOXES,
    rows=[torch.arange(3)],
    labels=[torch.tensor([2, 0, 1])],
    deltas=[torch.tensor([[0.1, 0.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0], [0.0, 0.0, 0.0, 0.0]])],
    matches=[torch.tensor([0, -1, 1])],
)
DELTAS = torch.zeros(3, 3, 4)
DELTAS[0, 2] = torch.tensor([0.6, 2.0, 0.0, 0.0])  # of the label of the box: errors 0.5 and 2
DELTAS[0, 1] = 7.0  # of another label: not counted


@pytest.mark.parametrize(
    ("beta", "expected"), [(None, 2.5 - 1 / 9), (0.0, 2.5), (0.5, 2.0), (1.0, 1.625)]
)
def test_cross_entropy_and_smooth_l1_over_the_boxes_that_are_trained_on(beta, expected):
    predictions = Predictions(BOXES, torch.zeros(3, 1), torch.zeros(3, 3), DELTAS.flatten(1))
    betas = () if beta is None else (beta,)
    terms = dict(zip(("cls", "loc"), head_losses(predictions, SAMPLE, *betas), strict=True))
    losses = settle(terms, torch.device("cpu"))
    torch.testing.assert_close(losses["cls"], torch.tensor(math.log(3)))
    torch.testing.assert_close(losses["loc"], torch.tensor(expected / 3))
