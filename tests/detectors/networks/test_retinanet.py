"""RetinaNet has no candidates at first, and the stage waits for them."""

import torch

from postnms.detectors import build_detector
from postnms.stage import StageConfig
from tests.support.detectors import RETINA, TARGETS, TWO


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
