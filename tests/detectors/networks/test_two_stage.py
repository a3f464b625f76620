"""Where the candidates of two-stage detectors come from."""

import pytest
import torch

from postnms.detectors import Selection
from postnms.detectors.image_batch import to_network
from tests.support.detectors import TARGETS, TWO, build


def prepared(detector):
    batch = detector.network.prepare(TWO)
    return detector.network.features(batch), batch, to_network(TARGETS, batch, 3)


@pytest.mark.parametrize("name", ["faster_rcnn", "cascade_rcnn", "cascade_rcnn_mean"])
def test_candidates_are_the_proposals_or_the_sample(name):
    detector = build(name).train()
    features, batch, targets = prepared(detector)
    for origin, most_rows in (("proposals", 100), ("sampled", 103)):
        candidates, _ = detector.network.candidates(features, batch, targets, Selection(origin))
        assert len(candidates.scores) > 0
        assert candidates.scores.min() > 0.2
        assert candidates.source.max() < most_rows
        pairs = torch.stack([candidates.image, candidates.source, candidates.labels], 1)
        assert len(pairs.unique(dim=0)) == len(pairs)
    none, _ = detector.network.candidates(features, batch, targets, Selection(losses_only=True))
    assert len(none.scores) == 0


@pytest.mark.parametrize("name", ["faster_rcnn", "cascade_rcnn", "cascade_rcnn_mean"])
def test_training_candidates_are_those_of_the_test_on_the_same_proposals(name):
    """Under the same limits, they are scored without gradients exactly as at test time."""
    detector = build(name, rpn_pre_nms_top_n_test=200, rpn_post_nms_top_n_test=100).eval()
    features, batch, targets = prepared(detector)
    trained, _ = detector.network.candidates(features, batch, targets)
    tested, _ = detector.network.candidates(features, batch)
    assert torch.equal(trained.boxes, tested.boxes)
    assert torch.equal(trained.scores, tested.scores)
    assert torch.equal(trained.source, tested.source)
