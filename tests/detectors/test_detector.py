"""Faster R-CNN and the pipeline: parity with torchvision, gradients, empties, bad input."""

import dataclasses

import pytest
import torch
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN

from postnms.detectors import BackboneConfig, FasterRCNNConfig, build_detector
from postnms.stage import StageConfig
from postnms.structures import Targets
from tests.test_matching import truths

SMALL = FasterRCNNConfig(
    backbone=BackboneConfig(name="resnet18", fpn_channels=16, norm="trained", trainable_layers=5),
    min_size=96,
    max_size=160,
    anchor_sizes=(16, 32, 64, 128, 256),
    rpn_pre_nms_top_n_train=200,
    rpn_post_nms_top_n_train=100,
    rpn_pre_nms_top_n_test=150,
    rpn_post_nms_top_n_test=80,
    box_batch_size_per_image=64,
    box_head_width=32,
    box_score_thresh=0.2,
)
STAGE = StageConfig(width=16)


def images(*sizes):
    random = torch.Generator().manual_seed(0)
    return [torch.rand(3, *size, generator=random) for size in sizes]


TWO = images((100, 130), (150, 110))
TARGETS = truths([(10, 10, 60, 70), (50, 40, 120, 95), (30, 80, 90, 140)], [0, 2, 1], [0, 0, 1], num_images=2)


def build(stage=STAGE, config=SMALL, seed=0):
    """Random weights, made uneven so that scores and boxes differ."""
    torch.manual_seed(seed)
    detector = build_detector(config, stage, 3)
    with torch.no_grad():
        heads, rpn = detector.network.roi_heads, detector.network.rpn
        heads.box_predictor.cls_score.weight.mul_(6)
        heads.box_predictor.bbox_pred.weight.mul_(4)
        rpn.head.cls_logits.weight.mul_(20)
        rpn.head.bbox_pred.weight.mul_(20)
    return detector


def torchvision_twin(detector):
    network = detector.network
    twin = TorchvisionFasterRCNN(
        network.backbone, 4, rpn_anchor_generator=network.rpn.anchor_generator, min_size=96, max_size=160
    )
    twin.rpn, twin.roi_heads = network.rpn, network.roi_heads
    return twin


def as_dicts(targets):
    rows = [targets.image == index for index in range(targets.num_images)]
    return [{"boxes": targets.boxes[row], "labels": targets.labels[row] + 1} for row in rows]


@torch.no_grad()
def test_the_bare_detector_detects_what_torchvision_does():
    detector = build(stage=None).eval()
    found = detector(TWO).rows["nms"]
    expected = torchvision_twin(detector).eval()(TWO)
    for index, theirs in enumerate(expected):
        mine = found.image == index
        assert len(theirs["scores"]) > 10
        torch.testing.assert_close(found.boxes[mine], theirs["boxes"], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found.scores[mine], theirs["scores"], rtol=1e-4, atol=1e-5)
        assert torch.equal(found.labels[mine] + 1, theirs["labels"])


def test_the_bare_detector_trains_on_what_torchvision_does():
    detector = build(stage=None).train()
    twin = torchvision_twin(detector).train()
    torch.manual_seed(1)
    mine = detector(TWO, TARGETS).losses
    torch.manual_seed(1)
    theirs = twin(TWO, as_dicts(TARGETS))
    assert mine.keys() == theirs.keys()
    for name, loss in theirs.items():
        torch.testing.assert_close(mine[name], loss, rtol=1e-4, atol=1e-5)


def test_the_stage_does_not_change_the_detectors_own_losses():
    bare_detector, joint_detector = build(stage=None).train(), build().train()
    joint_detector.network.load_state_dict(bare_detector.network.state_dict())
    torch.manual_seed(1)
    bare = bare_detector(TWO, TARGETS).losses
    torch.manual_seed(1)
    joint = joint_detector(TWO, TARGETS).losses
    assert joint.keys() - bare.keys() == {"loss_stage_cls", "loss_stage_loc"}
    for name, loss in bare.items():
        torch.testing.assert_close(joint[name], loss, rtol=1e-5, atol=1e-6)


def test_alpha_weighs_the_detectors_losses_alone():
    def losses(alpha):
        detector = build(stage=StageConfig(width=16, alpha=alpha)).train()
        torch.manual_seed(1)
        return detector(TWO, TARGETS).losses

    whole, half = losses(1.0), losses(0.5)
    for name in whole:
        torch.testing.assert_close(half[name], whole[name] * (1.0 if "stage" in name else 0.5))


@pytest.mark.parametrize("origin", ["proposals", "sampled"])
def test_the_stages_gradient_leaks_through_nothing_but_the_features(origin):
    detector = build(stage=StageConfig(width=16, candidates=origin, positive_iou=0.05)).train()
    losses = detector(TWO, TARGETS).losses
    (losses["loss_stage_cls"] + losses["loss_stage_loc"]).backward()
    reached = {name for name, p in detector.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert not any(name.startswith(("network.rpn", "network.roi_heads")) for name in reached)
    assert any(name.startswith("network.backbone.body") for name in reached)
    assert any(name.startswith("network.backbone.fpn") for name in reached)
    assert any(name.startswith("stage.heads.refinement_trunk") for name in reached)


def test_candidates_are_constants_and_say_where_they_come_from():
    detector = build().train()
    batch_images, network = TWO, detector.network
    from postnms.detectors.images import prepare_images, to_network

    batch = prepare_images(network.transform, batch_images)
    features = network.features(batch)
    targets = to_network(TARGETS, batch, 3)
    for origin, most_rows in (("proposals", 100), ("sampled", 103)):
        candidates, _ = network.candidates(features, batch, targets, origin)
        assert len(candidates.scores) > 0
        assert not candidates.boxes.requires_grad
        assert not candidates.scores.requires_grad
        assert candidates.scores.min() > 0.2
        assert candidates.source.max() < most_rows
        pairs = torch.stack([candidates.image, candidates.source, candidates.labels], 1)
        assert len(pairs.unique(dim=0)) == len(pairs)
    limited, _ = network.candidates(features, batch, targets, "proposals", 5)
    assert torch.bincount(limited.image).tolist() == [5, 5]
    lower, _ = network.candidates(features, batch, targets, "proposals", score_threshold=0.01)
    assert lower.scores.min() < 0.2


def test_training_candidates_are_those_of_the_test_on_the_same_proposals():
    """Scored under no-grad exactly as at test time: the same features and limits give the same candidates."""
    config = SMALL.model_copy(update={"rpn_pre_nms_top_n_test": 200, "rpn_post_nms_top_n_test": 100})
    detector = build(config=config).eval()
    from postnms.detectors.images import prepare_images, to_network

    batch = prepare_images(detector.network.transform, TWO)
    features = detector.network.features(batch)
    trained, _ = detector.network.candidates(features, batch, to_network(TARGETS, batch, 3), "proposals")
    tested, _ = detector.network.candidates(features, batch)
    assert torch.equal(trained.boxes, tested.boxes)
    assert torch.equal(trained.scores, tested.scores)
    assert torch.equal(trained.source, tested.source)


@torch.no_grad()
def test_both_results_come_from_one_pass_and_stay_in_the_image():
    detector = build().eval()
    rows = detector(TWO).rows
    assert list(rows) == ["nms", "post_nms"]
    assert torch.equal(rows["nms"].image, rows["post_nms"].image)
    for detections in rows.values():
        for index, (height, width) in enumerate([(100, 130), (150, 110)]):
            boxes = detections.boxes[detections.image == index]
            assert boxes.min() >= 0
            assert boxes[:, 2].max() <= width + 1e-3
            assert boxes[:, 3].max() <= height + 1e-3
    assert list(build(stage=None).eval()(TWO).rows) == ["nms"]
    again = build(stage=StageConfig(width=16, second_nms=0.5)).eval()(TWO).rows
    assert list(again) == ["nms", "post_nms", "post_nms_second_nms"]
    assert len(again["post_nms_second_nms"].scores) <= len(again["post_nms"].scores)


def test_what_is_computed_follows_from_the_arguments():
    for detector in (build().train(), build().eval()):
        assert detector(TWO).losses == {}
        assert detector(TWO, TARGETS).rows == {}
        assert len(detector(TWO, TARGETS).losses) == 6
        both = detector(TWO, TARGETS, detect=True)
        assert len(both.losses) == 6
        assert len(both.rows) == 2


@pytest.mark.parametrize("stage", [None, STAGE])
def test_images_without_objects_and_crowds_only(stage):
    detector = build(stage).train()
    crowd = truths([(10, 10, 60, 70)], [0], [1], [True], num_images=2)
    for targets in (truths([], num_images=2), crowd):
        losses = detector(TWO, targets).losses
        assert all(torch.isfinite(loss) for loss in losses.values())
        sum(losses.values()).backward()


@pytest.mark.parametrize("stage", [None, STAGE])
def test_no_candidate_at_all(stage):
    detector = build(stage, SMALL.model_copy(update={"box_score_thresh": 1.0}))
    losses = detector.train()(TWO, TARGETS).losses
    sum(losses.values()).backward()
    assert all(len(row.scores) == 0 and row.num_images == 2 for row in detector.eval()(TWO).rows.values())


def test_images_of_any_size_and_uint8():
    detector = build().eval()
    with torch.no_grad():
        rows = detector([torch.zeros(3, 1, 1), *images((300, 20))]).rows
        assert rows["post_nms"].num_images == 2
        bytes_ = (TWO[0] * 255).to(torch.uint8)
        assert torch.equal(detector([bytes_]).rows["nms"].boxes, detector([bytes_ / 255]).rows["nms"].boxes)


BAD_IMAGES = [
    ([], "images: expected at least one image"),
    ([torch.zeros(1, 9, 9)], r"images\[0\]: expected a tensor \(3, height, width\), got \(1, 9, 9\)"),
    ([torch.zeros(3, 0, 9)], r"images\[0\]: expected a tensor \(3, height, width\), got \(3, 0, 9\)"),
    ([torch.zeros(3, 9, 9, dtype=torch.int64)], r"images\[0\]: expected uint8 or float in \[0, 1\], got torch.int64"),
    ([[1]], r"images\[0\]: expected a tensor \(3, height, width\), got list"),
]


@pytest.mark.parametrize(("given", "message"), BAD_IMAGES)
def test_bad_images_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        build()(given)


def test_bad_targets_are_named():
    with pytest.raises(ValueError, match="targets: expected 2 images, got 3"):
        build()(TWO, dataclasses.replace(TARGETS, num_images=3))
    with pytest.raises(ValueError, match=r"targets\.labels: expected 0 to 2, got 3"):
        build()(TWO, dataclasses.replace(TARGETS, labels=TARGETS.labels + 1))
    flat = Targets(torch.tensor([[1.0, 1, 1, 5]]), torch.tensor([0]), torch.tensor([0]), torch.tensor([False]), 2)
    with pytest.raises(ValueError, match=r"targets.boxes: expected positive width and height.*row 0"):
        build()(TWO, flat)


def test_bf16_autocast_keeps_boxes_and_losses_in_float32():
    detector = build().train()
    with torch.autocast("cpu", torch.bfloat16):
        output = detector(TWO, TARGETS, detect=True)
    assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for loss in output.losses.values())
    nms = output.rows["nms"].boxes
    assert not torch.equal(nms, nms.bfloat16().float())
