"""The location loss of the proposal network by hand."""

import pytest
import torch

from postnms.detectors import ImageBatch
from postnms.detectors.parts.proposals import propose
from postnms.distributed.collectives import settle
from tests.support.detectors import build


@pytest.mark.parametrize(("beta", "expected"), [(0.0, 2.5), (1 / 9, 2.5 - 1 / 9), (1.0, 1.625)])
def test_smooth_l1_of_one_anchor_by_hand(beta, expected):
    """The errors are 0.5 and 2. The loss is divided by the two anchors of the sample."""
    rpn = build("faster_rcnn", None, rpn_smooth_l1_beta=beta).network.rpn
    anchors = torch.tensor([[0.0, 0, 20, 10], [50, 50, 60, 60]])
    rpn.anchor_generator.forward = lambda *_: [anchors]
    # The truth lies a tenth of the width to the right of the first anchor.
    deltas = torch.tensor([[0.6, 2.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]]).view(1, 8, 1, 1)
    rpn.head.forward = lambda _: ([torch.zeros(1, 2, 1, 1)], [deltas])
    images = ImageBatch(torch.zeros(1, 3, 64, 64), [(64, 64)], [(64, 64)])
    truth = {"boxes": torch.tensor([[2.0, 0, 22, 10]]), "labels": torch.tensor([1])}
    _, losses = propose(rpn, images, {"0": torch.zeros(1, 16, 1, 1)}, [truth], beta)
    loss = settle(losses, torch.device("cpu"))["loss_rpn_box_reg"]
    torch.testing.assert_close(loss, torch.tensor(expected / 2))
