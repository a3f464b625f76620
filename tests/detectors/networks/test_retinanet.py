"""RetinaNet has no candidates at first, and the stage waits for them; its box loss by hand."""

import pytest
import torch

from postnms.detectors import ImageBatch, build_detector
from postnms.stage import StageConfig
from tests.support.builders import truths
from tests.support.detectors import RETINA, TARGETS, TWO, build


def test_a_new_retinanet_has_no_candidates_and_the_stage_waits():
    """Every score is near 0.01 at first, so losses and gradients of the stage are zero."""
    torch.manual_seed(0)
    config = RETINA.model_copy(update={"score_thresh": 0.05})
    for stage in (StageConfig(width=16), StageConfig(width=16, beta=1.0)):
        detector = build_detector(config, stage, 3).train()
        losses = detector(TWO, TARGETS).losses
        assert losses["loss_stage_cls"] == losses["loss_stage_loc"] == 0
        assert losses["loss_classification"] > 0
        sum(losses.values()).backward()
        assert all(
            p.grad is not None and p.grad.abs().sum() == 0 for p in detector.stage.parameters()
        )
    eager = build_detector(config, StageConfig(width=16, score_threshold=0.001), 3).train()
    assert eager(TWO, TARGETS).losses["loss_stage_cls"] > 0


@pytest.mark.parametrize(("beta", "expected"), [(0.0, 1.25), (0.11, 1.1675), (1.0, 0.5625)])
def test_the_box_loss_of_an_anchor_by_hand(beta, expected):
    """Errors 0.5, 1 and 1 of one anchor, none of another one, on the first of two images."""
    network = build("retinanet", None, smooth_l1_beta=beta).network
    anchors = torch.tensor([[0.0, 0, 20, 10], [50, 50, 60, 60], [0, 0, 20, 10]])
    network.anchor_generator.forward = lambda *_: [anchors, anchors]
    deltas = torch.zeros(2, 3, 4)
    # The truth lies a tenth of the width to the right. The first anchor is moved 0.6 and more.
    deltas[0, 0] = torch.tensor([0.6, 1.0, 0.0, -1.0])
    deltas[0, 2] = torch.tensor([0.1, 0.0, 0.0, 0.0])
    network.head.forward = lambda _: {"cls_logits": torch.zeros(2, 3, 3), "bbox_regression": deltas}
    images = ImageBatch(torch.zeros(2, 3, 64, 64), [(64, 64)] * 2, [(64, 64)] * 2)
    targets = truths([(2, 0, 22, 10)], [1], [0], num_images=2)
    _, losses = network.candidates({"0": torch.zeros(2, 16, 1, 1)}, images, targets)
    # By image: the sum over the two positive anchors is divided by 2. Then the mean of two images.
    torch.testing.assert_close(losses["loss_bbox_regression"], torch.tensor(expected / 2))
