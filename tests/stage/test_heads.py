"""The two networks of the stage: what the class does to them, and which deltas they give."""

import torch

from postnms.stage import PostNMSStage, StageConfig
from postnms.structures import Level
from tests.support.stages import CANDIDATES, build, features


def test_encoding_tells_classes_apart_and_can_be_left_out():
    pooled = torch.zeros(2, 8, 7, 7)
    for encoding, same in (("add", False), ("concat", False), ("none", True)):
        logits, _ = build(encoding=encoding).heads(pooled, torch.tensor([0, 1]))
        assert bool(logits[0] == logits[1]) == same


def test_deltas_of_the_first_rows_alone():
    for shared in (True, False):
        stage = build(shared_trunk=shared).eval()
        given = (features(), CANDIDATES.boxes, CANDIDATES.image, CANDIDATES.labels)
        (logits, deltas), (same, first) = stage(*given), stage(*given, refined=2)
        assert torch.equal(same, logits)
        torch.testing.assert_close(first, deltas[:2])


def test_without_an_encoding_channels_may_be_odd():
    stage = PostNMSStage(StageConfig(width=4, encoding="none"), {"0": Level(5, 4)}, 2)
    assert stage.heads.join == "none"
