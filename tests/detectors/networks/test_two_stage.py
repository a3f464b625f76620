"""Where the candidates of two-stage detectors come from."""

import pytest
import torch

from postnms.clustering import cluster
from postnms.detectors import Selection, from_torchvision
from postnms.detectors.image_batch import to_network
from postnms.stage.training_rows import training_rows
from tests.support.detectors import STAGE, TARGETS, TWO, build, small_faster_rcnn


def prepared(detector):
    batch = detector.network.prepare(TWO)
    return detector.network.features(batch), batch, to_network(TARGETS, batch, 3)


@pytest.mark.parametrize("name", ["faster_rcnn", "cascade_rcnn", "cascade_rcnn_mean"])
def test_candidates_are_the_proposals_or_the_sample(name):
    detector = build(name).train()
    features, batch, targets = prepared(detector)
    for origin in ("proposals", "sampled"):
        candidates, _ = detector.network.candidates(features, batch, targets, Selection(origin))
        assert len(candidates.scores) > 0
        assert candidates.scores.min() > 0.2
        assert candidates.source.max() < 100
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


@pytest.mark.parametrize("origin", ["proposals", "sampled"])
@pytest.mark.parametrize("name", ["faster_rcnn", "cascade_rcnn", "cascade_rcnn_mean", "adopted"])
@torch.no_grad()
def test_the_stage_is_not_trained_on_injected_ground_truth(name, origin):
    """No box is moved here, so an injected box among the rows would be the ground truth itself."""
    adopted = name == "adopted"
    detector = from_torchvision(small_faster_rcnn(), STAGE) if adopted else build(name)
    for part, parameter in detector.network.named_parameters():
        if "bbox_pred" in part and not part.startswith("rpn"):
            parameter.zero_()
    features, batch, targets = prepared(detector.train())
    selection = Selection(origin, score_threshold=0.0)
    candidates, _ = detector.network.candidates(features, batch, targets, selection)
    rows = training_rows(cluster(candidates), targets, STAGE)
    assert len(rows.boxes) > 20
    distance = (rows.boxes[:, None] - targets.boxes).abs().amax(dim=2)  # (rows, objects)
    assert distance.min() > 0.01
