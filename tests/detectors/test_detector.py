"""The pipeline: what is computed when, and where the candidates of training come from."""

import pytest
import torch

from postnms.detectors import ImageBatch, Selection, build_detector
from postnms.detectors.image_batch import to_network
from postnms.stage import StageConfig
from tests.detectors.cases import RETINA, TARGETS, TWO, build, freeze_statistics

TWO_STAGE = pytest.mark.parametrize("name", ["faster_rcnn", "cascade_rcnn", "cascade_rcnn_mean"])


def prepared(detector):
    batch = detector.network.prepare(TWO)
    return detector.network.features(batch), batch, to_network(TARGETS, batch, 3)


def test_alpha_weighs_the_detectors_losses_alone():
    def losses(alpha):
        detector = build("faster_rcnn", StageConfig(width=16, alpha=alpha)).train()
        torch.manual_seed(1)
        return detector(TWO, TARGETS).losses

    whole, half = losses(1.0), losses(0.5)
    for name in whole:
        torch.testing.assert_close(half[name], whole[name] * (1.0 if "stage" in name else 0.5))


@TWO_STAGE
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
    assert (
        len(detector.network.candidates(features, batch, targets, Selection("none"))[0].scores) == 0
    )


@TWO_STAGE
def test_training_candidates_are_those_of_the_test_on_the_same_proposals(name):
    """Scored under no-grad exactly as at test time: the same features and limits give the same candidates."""
    detector = build(name, rpn_pre_nms_top_n_test=200, rpn_post_nms_top_n_test=100).eval()
    features, batch, targets = prepared(detector)
    trained, _ = detector.network.candidates(features, batch, targets)
    tested, _ = detector.network.candidates(features, batch)
    assert torch.equal(trained.boxes, tested.boxes)
    assert torch.equal(trained.scores, tested.scores)
    assert torch.equal(trained.source, tested.source)


def test_a_head_with_batch_norm_scores_candidates_as_at_test_time():
    """SSDlite's: in training its losses have the statistics of the batch, its candidates those that it has learned."""
    network = build("ssdlite").network
    freeze_statistics(network)
    batch = network.prepare(TWO)
    features = network.features(batch)
    tested, _ = network.candidates(features, batch)
    network.head.train()
    trained, losses = network.candidates(features, batch, to_network(TARGETS, batch, 3))
    assert torch.equal(trained.scores, tested.scores)
    assert network.head.training
    network.head.eval()
    again = network.candidates(features, batch, to_network(TARGETS, batch, 3))[1]
    assert losses["loss_classification"] != again["loss_classification"]


@torch.no_grad()
def test_a_second_nms_gives_a_third_row():
    rows = build("faster_rcnn", StageConfig(width=16, second_nms=0.5)).eval()(TWO).rows
    assert list(rows) == ["nms", "post_nms", "post_nms_second_nms"]
    assert torch.equal(rows["nms"].image, rows["post_nms"].image)
    assert len(rows["post_nms_second_nms"].scores) <= len(rows["post_nms"].scores)


def test_what_is_computed_follows_from_the_arguments():
    for detector in (build("faster_rcnn").train(), build("faster_rcnn").eval()):
        assert detector(TWO).losses == {}
        assert detector(TWO, TARGETS).rows == {}
        assert len(detector(TWO, TARGETS).losses) == 6
        both = detector(TWO, TARGETS, detect=True)
        assert len(both.losses) == 6
        assert len(both.rows) == 2


def test_a_new_retinanet_has_no_candidates_and_the_stage_waits():
    """Every score is near 0.01 at first: zero losses and gradients of the stage, whatever its config."""
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


def test_anchors_are_not_rounded_to_the_dtype_of_the_levels():
    """bfloat16 has 8 digits: at 1000 pixels it would move anchors by up to 2, and leave the generator's own rounded."""
    network = build("faster_rcnn").network
    generator = network.rpn.anchor_generator
    batch = ImageBatch(torch.zeros(1, 3, 800, 1344), [(800, 1333)], [(800, 1333)])
    levels = [torch.zeros(1, 16, 800 // stride, 1344 // stride) for stride in (4, 8, 16, 32, 64)]
    expected = batch.anchors(generator, levels)[0]
    found = batch.anchors(generator, [level.bfloat16() for level in levels])[0]
    assert found.dtype == torch.float32
    assert expected.max() > 1400
    assert torch.equal(found, expected)
    assert torch.equal(batch.anchors(generator, levels)[0], expected)
