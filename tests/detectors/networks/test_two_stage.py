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


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("faster_rcnn", "proposals"),
        *((n, "sampled") for n in ("faster_rcnn", "cascade_rcnn", "adopted")),
    ],
)
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


@pytest.mark.parametrize("name", ["faster_rcnn", "cascade_rcnn"])
@pytest.mark.parametrize("field", ["rpn_smooth_l1_beta", "box_smooth_l1_beta"])
def test_each_box_loss_has_the_beta_of_its_field(name, field):
    """Below beta smooth-L1 is error^2 / (2 beta), so twice the beta halves the loss."""

    def losses(beta):
        detector = build(name, None, **{field: beta}).train()
        torch.manual_seed(1)
        return detector(TWO, TARGETS).losses

    once, twice = losses(1000.0), losses(2000.0)
    halved = {term for term in once if torch.isclose(once[term], 2 * twice[term], rtol=1e-4)}
    changed = {term for term in once if once[term] != twice[term]}
    of_rpn = {term for term in once if "rpn_box_reg" in term}
    of_heads = {term for term in once if "loss_box_reg" in term}
    assert len(of_heads) == (3 if name == "cascade_rcnn" else 1)
    assert halved == changed == (of_rpn if field.startswith("rpn") else of_heads)
