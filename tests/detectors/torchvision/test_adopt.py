"""The stage on torchvision's own detectors: what is shared, and what is refused."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import detection, get_model

from postnms import StageConfig, UserError, from_torchvision
from tests.support.detectors import (
    SMALL_MODEL,
    STAGE,
    TARGETS,
    TWO,
    random_torchvision,
    small_faster_rcnn,
)


def test_modules_and_weights_are_shared():
    model = small_faster_rcnn()
    detector = from_torchvision(model, STAGE).train()
    own = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in detector.network.parameters()} == own
    scores = model.roi_heads.box_predictor.cls_score
    before = scores.weight.clone()
    sum(detector(TWO, TARGETS).losses.values()).backward()
    torch.optim.SGD(detector.parameters(), 0.1).step()
    assert not torch.equal(scores.weight, before)


@torch.no_grad()
def test_the_models_own_box_coder_counts():
    model = random_torchvision("ssdlite320_mobilenet_v3_large", num_classes=4).eval()
    model.box_coder = detection._utils.BoxCoder((5.0, 5.0, 5.0, 5.0))
    found, expected = from_torchvision(model, None)(TWO[:1]).rows["nms"], model(TWO[:1])[0]
    torch.testing.assert_close(found.boxes, expected["boxes"], rtol=1e-4, atol=1e-3)


def test_a_frozen_model_is_as_at_test_time_from_the_start():
    model = small_faster_rcnn().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    from_torchvision(model, STAGE, frozen=True)(TWO, TARGETS)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_several_sizes_are_a_matter_of_chance_to_torchvision_alone():
    model = small_faster_rcnn(min_size=(64, 80, 96)).train()
    detector = from_torchvision(model, None).train()
    assert {detector.network.prepare(TWO).pixels.shape for _ in range(8)} == {(2, 3, 160, 128)}
    assert model.transform.training


def test_the_model_is_left_in_its_mode_and_without_hooks():
    model = small_faster_rcnn().train()
    model.backbone.fpn.eval()
    from_torchvision(model, STAGE)
    assert model.training
    assert model.backbone.training
    assert not model.backbone.fpn.training
    assert model.rpn.box_similarity is torchvision.ops.box_iou


@torch.no_grad()
def test_labels_choose_what_a_class_is_called_by_the_model():
    """Classes 0 and 1 are the model's labels 3 and 1; its label 2 has no class."""
    model = small_faster_rcnn(box_detections_per_img=1000).eval()
    every = from_torchvision(model, None)(TWO).rows["nms"]
    some = from_torchvision(model, None, labels=[3, 1])(TWO).rows["nms"]
    for own, theirs in ((0, 2), (1, 0)):
        mine, expected = some.labels == own, every.labels == theirs
        assert expected.sum() > 3
        assert torch.equal(some.boxes[mine], every.boxes[expected])
        assert torch.equal(some.scores[mine], every.scores[expected])


@pytest.mark.parametrize("name", ["fcos_resnet50_fpn", "retinanet_resnet50_fpn"])
def test_losses_with_chosen_labels_are_those_of_the_models_labels(name):
    model = random_torchvision(name, **{**SMALL_MODEL, "num_classes": 8}).eval()
    chosen = from_torchvision(model, None, labels=[2, 7, 4])(TWO, TARGETS).losses
    renamed = TARGETS.labels.new_tensor([2, 7, 4])[TARGETS.labels]
    every = from_torchvision(model, None)(
        TWO, type(TARGETS)(**{**vars(TARGETS), "labels": renamed})
    ).losses
    assert chosen == every


@pytest.mark.parametrize("labels", [[0, 1], [1, 4], [1, 1], []])
def test_labels_that_the_model_does_not_have(labels):
    with pytest.raises(UserError, match=r"labels: expected different labels from 1 to 3, got \["):
        from_torchvision(small_faster_rcnn(), labels=labels)


def test_a_backbone_with_a_single_map_and_levels_that_are_not_pooled():
    body = torchvision.models.mobilenet_v2(weights=None).features
    body.out_channels = 1280
    anchors = detection.anchor_utils.AnchorGenerator(sizes=((32, 64),), aspect_ratios=((1.0,),))
    pool = torchvision.ops.MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=2)
    single = detection.FasterRCNN(
        body, 3, rpn_anchor_generator=anchors, box_roi_pool=pool, min_size=96
    )
    assert {
        name: (lv.channels, lv.stride)
        for name, lv in from_torchvision(single).network.levels.items()
    } == {"0": (1280, 32)}
    levels = from_torchvision(small_faster_rcnn()).network.levels
    assert [(name, level.stride) for name, level in levels.items()] == [("0", 32), ("1", 32)]


def test_ssd_pools_from_its_two_finest_maps_through_a_convolution_each():
    model = get_model("ssd300_vgg16", weights=None, weights_backbone=None, num_classes=4)
    detector = from_torchvision(model, STAGE)
    assert [(level.channels, level.stride) for level in detector.network.levels.values()] == [
        (512, 8),
        (1024, 16),
    ]
    widths = {name: conv.weight.shape[:2] for name, conv in detector.stage.decoupling.conv.items()}
    assert widths == {"0": (256, 512), "1": (256, 1024)}
    with pytest.raises(
        UserError, match=r"stage\.decoupling: levels of \[512, 1024\] channels need it, got false"
    ):
        from_torchvision(model, StageConfig(decoupling=False))


def without(path, value):
    model = small_faster_rcnn()
    *parents, last = path.split(".")
    place = model
    for name in parents:
        place = getattr(place, name)
    setattr(place, last, value)
    return model


def without_matcher():
    model = random_torchvision("retinanet_resnet50_fpn", **{**SMALL_MODEL, "num_classes": 3})
    del model.proposal_matcher
    return model


REFUSED = [
    (
        lambda: nn.Linear(1, 1),
        r"model: expected one of torchvision's FasterRCNN, RetinaNet, FCOS, SSD, got torch\.nn",
    ),
    (
        lambda: detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2),
        r"expected one of .*, got torchvision\.models\.detection\.mask_rcnn\.MaskRCNN",
    ),
    (
        lambda: without("rpn", None),
        "FasterRCNN needs rpn of type RegionProposalNetwork, got nothing",
    ),
    (
        lambda: without("transform", nn.Identity()),
        "needs transform of type GeneralizedRCNNTransform, got torch.nn",
    ),
    (
        lambda: without("roi_heads.box_roi_pool", torchvision.ops.MultiScaleRoIAlign(["a"], 7, 2)),
        r"expected featmap_names among \['0', '1', 'pool'\], got \['a'\]",
    ),
    (
        lambda: without("roi_heads.box_roi_pool", torchvision.ops.MultiScaleRoIAlign(["0"], 7, 0)),
        "expected a sampling_ratio >= 1, got 0",
    ),
    (lambda: without_matcher(), "RetinaNet needs proposal_matcher of type Matcher, got nothing"),
    (
        lambda: without("roi_heads.box_predictor", nn.Identity()),
        r"needs roi_heads\.box_predictor\.cls_score of type Linear, got nothing",
    ),
    (
        lambda: without("roi_heads.box_predictor.bbox_pred", nn.Linear(1024, 4)),
        r"bbox_pred: expected 4 outputs a class, got 4 in all",
    ),
    (
        lambda: without(
            "roi_heads.box_roi_pool",
            torchvision.ops.MultiScaleRoIAlign(["0"], 7, 2, canonical_scale=112),
        ),
        r"roi_heads\.box_roi_pool: expected the level rule of 224 pixels on level 4",
    ),
]


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_models_that_cannot_be_taken_are_named(build, message):
    with pytest.raises(UserError, match=message):
        from_torchvision(build())
