"""The stage on torchvision's own detectors: what is shared, what is refused, and recipes that name them."""

from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models import detection, get_model

from postnms import StageConfig, UserError, from_torchvision
from postnms.detectors import TorchvisionConfig, build_detector
from postnms.recipes import get_recipe
from tests.detectors.cases import STAGE, TARGETS, TWO, images, random_torchvision

SMALL = {"num_classes": 4, "min_size": 96, "max_size": 160}
MOBILE = "fasterrcnn_mobilenet_v3_large_320_fpn"


def faster_rcnn(**options):
    return random_torchvision(MOBILE, **{**SMALL, **options})


def test_modules_and_weights_are_shared():
    model = faster_rcnn()
    detector = from_torchvision(model, STAGE).train()
    own = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in detector.network.parameters()} == own
    scores = model.roi_heads.box_predictor.cls_score
    before = scores.weight.clone()
    sum(detector(TWO, TARGETS).losses.values()).backward()
    torch.optim.SGD(detector.parameters(), 0.1).step()
    assert not torch.equal(
        model.roi_heads.box_predictor.cls_score.weight, before["roi_heads.box_predictor.cls_score.weight"]
    )


def test_the_model_is_left_in_its_mode_and_without_hooks():
    model = faster_rcnn().train()
    model.backbone.fpn.eval()
    from_torchvision(model, STAGE)
    assert model.training
    assert model.backbone.training
    assert not model.backbone.fpn.training
    assert model.rpn.box_similarity is torchvision.ops.box_iou


@torch.no_grad()
def test_labels_choose_what_a_class_is_called_by_the_model():
    """Classes 0 and 1 are the model's labels 3 and 1; its label 2 has no class."""
    model = faster_rcnn().eval()
    every = from_torchvision(model, None)(TWO).rows["nms"]
    some = from_torchvision(model, None, labels=[3, 1])(TWO).rows["nms"]
    for own, theirs in ((0, 2), (1, 0)):
        mine, expected = some.labels == own, every.labels == theirs
        assert expected.sum() > 3
        assert torch.equal(some.boxes[mine], every.boxes[expected])
        assert torch.equal(some.scores[mine], every.scores[expected])


@pytest.mark.parametrize("name", ["fcos_resnet50_fpn", "retinanet_resnet50_fpn"])
def test_losses_with_chosen_labels_are_those_of_the_models_labels(name):
    model = random_torchvision(name, **{**SMALL, "num_classes": 8}).eval()
    chosen = from_torchvision(model, None, labels=[2, 7, 4])(TWO, TARGETS).losses
    renamed = TARGETS.labels.new_tensor([2, 7, 4])[TARGETS.labels]
    every = from_torchvision(model, None)(TWO, type(TARGETS)(**{**vars(TARGETS), "labels": renamed})).losses
    assert chosen == every


@pytest.mark.parametrize("labels", [[0, 1], [1, 4], [1, 1], []])
def test_labels_that_the_model_does_not_have(labels):
    with pytest.raises(UserError, match=r"labels: expected different labels from 1 to 3, got \["):
        from_torchvision(faster_rcnn(), labels=labels)


def test_a_backbone_with_a_single_map_and_levels_that_are_not_pooled():
    body = torchvision.models.mobilenet_v2(weights=None).features
    body.out_channels = 1280
    anchors = detection.anchor_utils.AnchorGenerator(sizes=((32, 64),), aspect_ratios=((1.0,),))
    pool = torchvision.ops.MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=2)
    single = detection.FasterRCNN(body, 3, rpn_anchor_generator=anchors, box_roi_pool=pool, min_size=96)
    assert {name: (lv.channels, lv.stride) for name, lv in from_torchvision(single).network.levels.items()} == {
        "0": (1280, 32)
    }
    levels = from_torchvision(faster_rcnn()).network.levels
    assert [(name, level.stride) for name, level in levels.items()] == [("0", 32), ("1", 32)]


def test_ssd_pools_from_its_two_finest_maps_through_a_convolution_each():
    detector = from_torchvision(get_model("ssd300_vgg16", weights=None, weights_backbone=None, num_classes=4), STAGE)
    assert [(level.channels, level.stride) for level in detector.network.levels.values()] == [(512, 8), (1024, 16)]
    widths = {name: conv.weight.shape[:2] for name, conv in detector.stage.decoupling.conv.items()}
    assert widths == {"0": (256, 512), "1": (256, 1024)}
    with pytest.raises(UserError, match=r"stage\.decoupling: levels of \[512, 1024\] channels need it, got false"):
        from_torchvision(
            get_model("ssd300_vgg16", weights=None, weights_backbone=None, num_classes=4), StageConfig(decoupling=False)
        )


def without(path, value):
    model = faster_rcnn()
    *parents, last = path.split(".")
    place = model
    for name in parents:
        place = getattr(place, name)
    setattr(place, last, value)
    return model


REFUSED = [
    (lambda: nn.Linear(1, 1), r"model: expected one of torchvision's FasterRCNN, RetinaNet, FCOS, SSD, got torch\.nn"),
    (
        lambda: detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2),
        r"expected one of .*, got torchvision\.models\.detection\.mask_rcnn\.MaskRCNN",
    ),
    (lambda: without("rpn", None), "FasterRCNN needs rpn of type RegionProposalNetwork, got nothing"),
    (
        lambda: without("roi_heads.box_predictor", nn.Identity()),
        r"needs roi_heads\.box_predictor\.cls_score of type Linear, got nothing",
    ),
    (
        lambda: without("roi_heads.box_predictor.bbox_pred", nn.Linear(1024, 4)),
        r"bbox_pred: expected 4 outputs a class, got 4 in all",
    ),
    (
        lambda: without("roi_heads.box_roi_pool", torchvision.ops.MultiScaleRoIAlign(["0"], 7, 2, canonical_scale=112)),
        r"roi_heads\.box_roi_pool: expected the level rule of 224 pixels on level 4",
    ),
]


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_models_that_cannot_be_taken_are_named(build, message):
    with pytest.raises(UserError, match=message):
        from_torchvision(build())


CONFIG = TorchvisionConfig(model=MOBILE, min_size=96, max_size=160)


def test_a_recipe_names_a_model_by_its_builder():
    recipe = get_recipe("demo", ['detector={"kind": "torchvision", "model": "' + MOBILE + '", "min_size": 64}'])
    detector = build_detector(recipe.detector, recipe.stage, 5)
    assert detector.network.num_classes == 5
    assert detector.network.transform.min_size == (64,)
    assert "box_head" in dict(detector.network.roi_heads.named_children())
    dense = build_detector(CONFIG.model_copy(update={"model": "retinanet_resnet50_fpn"}), None, 5)
    assert dense.network.head.classification_head.num_classes == 5


@torch.no_grad()
def test_weights_of_a_file_with_more_outputs_than_classes(tmp_path):
    model = faster_rcnn()
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "model.safetensors"
    )
    settings = {"weights": str(tmp_path / "model.safetensors"), "labels": (3, 1), "norm": "frozen"}
    config = CONFIG.model_copy(update=settings)
    detector = build_detector(config, None, 2).eval()
    found, expected = detector(TWO).rows["nms"], from_torchvision(model.eval(), None, labels=[3, 1])(TWO).rows["nms"]
    torch.testing.assert_close(found.boxes, expected.boxes)
    torch.testing.assert_close(found.scores, expected.scores)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in detector.modules())
    with pytest.raises(UserError, match=r"detector\.labels: expected a label of .* for each of the 3 .*, got 2"):
        build_detector(config, None, 3)
    with pytest.raises(UserError, match=r"bias has shape \(4,\), expected \(10,\).* and "):
        build_detector(config.model_copy(update={"outputs": 10}), None, 2)


def test_coco_weights_have_80_named_classes_and_are_left_out_of_runs(monkeypatch):
    weights = torchvision.models.get_model_weights(MOBILE)["DEFAULT"]
    state = get_model(MOBILE, weights=None, weights_backbone=None, num_classes=91).state_dict()
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: state)
    config = CONFIG.model_copy(update={"weights": "coco"})
    detector = build_detector(config, None, 80)
    assert detector.network.columns.of_class[:12] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)
    again = build_detector(config.without_weights(), None, 80)
    assert again.network.columns == detector.network.columns
    assert {n: t.shape for n, t in again.state_dict().items()} == {n: t.shape for n, t in detector.state_dict().items()}


def test_coco_weights_out_of_reach_are_one_clear_line(monkeypatch):
    def unreachable(*_, **__):
        raise URLError("no route to host")

    weights = torchvision.models.get_model_weights(MOBILE)["DEFAULT"]
    monkeypatch.setattr(type(weights), "get_state_dict", unreachable)
    with pytest.raises(UserError, match="could not reach torchvision's COCO weights") as error:
        build_detector(CONFIG.model_copy(update={"weights": "coco"}), None, 80)
    assert "\n" not in str(error.value)


def test_options_that_the_builder_does_not_take():
    with pytest.raises(UserError, match=r"detector\.options: .* does not take .*'box_score_tresh'"):
        build_detector(CONFIG.model_copy(update={"options": {"box_score_tresh": 0.1}}), None, 3)


@torch.no_grad()
def test_a_size_of_its_own():
    config = CONFIG.model_copy(update={"model": "ssdlite320_mobilenet_v3_large"})
    detector = build_detector(config, STAGE, 3).eval()
    batch = detector.network.prepare(images((100, 130)))
    assert batch.pixels.shape == (1, 3, 320, 320)
