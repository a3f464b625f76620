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
    assert not torch.equal(scores.weight, before)


@torch.no_grad()
def test_the_models_own_box_coder_counts():
    model = random_torchvision("ssdlite320_mobilenet_v3_large", num_classes=4).eval()
    model.box_coder = detection._utils.BoxCoder((5.0, 5.0, 5.0, 5.0))
    found, expected = from_torchvision(model, None)(TWO[:1]).rows["nms"], model(TWO[:1])[0]
    torch.testing.assert_close(found.boxes, expected["boxes"], rtol=1e-4, atol=1e-3)


def test_a_frozen_model_is_as_at_test_time_from_the_start():
    model = faster_rcnn().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    from_torchvision(model, STAGE, frozen=True)(TWO, TARGETS)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_several_sizes_are_a_matter_of_chance_to_torchvision_alone():
    model = faster_rcnn(min_size=(64, 80, 96)).train()
    detector = from_torchvision(model, None).train()
    assert {detector.network.prepare(TWO).pixels.shape for _ in range(8)} == {(2, 3, 160, 128)}
    assert model.transform.training


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
    model = faster_rcnn(box_detections_per_img=1000).eval()
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
    every = from_torchvision(model, None)(
        TWO, type(TARGETS)(**{**vars(TARGETS), "labels": renamed})
    ).losses
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
    single = detection.FasterRCNN(
        body, 3, rpn_anchor_generator=anchors, box_roi_pool=pool, min_size=96
    )
    assert {
        name: (lv.channels, lv.stride)
        for name, lv in from_torchvision(single).network.levels.items()
    } == {"0": (1280, 32)}
    levels = from_torchvision(faster_rcnn()).network.levels
    assert [(name, level.stride) for name, level in levels.items()] == [("0", 32), ("1", 32)]


def test_ssd_pools_from_its_two_finest_maps_through_a_convolution_each():
    detector = from_torchvision(
        get_model("ssd300_vgg16", weights=None, weights_backbone=None, num_classes=4), STAGE
    )
    assert [(level.channels, level.stride) for level in detector.network.levels.values()] == [
        (512, 8),
        (1024, 16),
    ]
    widths = {name: conv.weight.shape[:2] for name, conv in detector.stage.decoupling.conv.items()}
    assert widths == {"0": (256, 512), "1": (256, 1024)}
    with pytest.raises(
        UserError, match=r"stage\.decoupling: levels of \[512, 1024\] channels need it, got false"
    ):
        from_torchvision(
            get_model("ssd300_vgg16", weights=None, weights_backbone=None, num_classes=4),
            StageConfig(decoupling=False),
        )


def without(path, value):
    model = faster_rcnn()
    *parents, last = path.split(".")
    place = model
    for name in parents:
        place = getattr(place, name)
    setattr(place, last, value)
    return model


def without_matcher():
    model = random_torchvision("retinanet_resnet50_fpn", **{**SMALL, "num_classes": 3})
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


CONFIG = TorchvisionConfig(model=MOBILE, min_size=96, max_size=160)


def test_a_recipe_names_a_model_by_its_builder():
    recipe = get_recipe(
        "demo", ['detector={"kind": "torchvision", "model": "' + MOBILE + '", "min_size": 64}']
    )
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
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        tmp_path / "model.safetensors",
    )
    settings = {"weights": str(tmp_path / "model.safetensors"), "labels": (3, 1), "norm": "frozen"}
    config = CONFIG.model_copy(update=settings)
    detector = build_detector(config, None, 2).eval()
    found, expected = (
        detector(TWO).rows["nms"],
        from_torchvision(model.eval(), None, labels=[3, 1])(TWO).rows["nms"],
    )
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in detector.modules())
    with pytest.raises(
        UserError, match=r"detector\.labels: expected a label of .* for each of the 3 .*, got 2"
    ):
        build_detector(config, None, 3)
    with pytest.raises(UserError, match=r"bias has shape \(4,\), expected \(10,\).* and "):
        build_detector(config.model_copy(update={"outputs": 10}), None, 2)


def described(detector):
    """All that decides what a detector computes and trains, besides its weights."""
    modules = [(n, type(m).__name__, getattr(m, "eps", None)) for n, m in detector.named_modules()]
    return (
        modules,
        [(n, p.shape) for n, p in detector.named_parameters() if p.requires_grad],
        detector.network.columns,
    )


@pytest.mark.parametrize("norm", ["frozen", "trained"])
@pytest.mark.parametrize(("name", "epsilon"), [(MOBILE, 1e-5), ("fasterrcnn_resnet50_fpn", 0.0)])
def test_coco_weights_have_80_named_classes_and_runs_are_rebuilt_without_them(
    monkeypatch, name, epsilon, norm
):
    weights = torchvision.models.get_model_weights(name)["DEFAULT"]
    state = get_model(name, weights=None, weights_backbone=None, num_classes=91).state_dict()
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: state)
    config = TorchvisionConfig(model=name, weights="coco", norm=norm)
    detector = build_detector(config, None, 80)
    assert detector.network.columns.of_class[:12] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)
    norms = [
        part for part in detector.network.backbone.modules() if "BatchNorm" in type(part).__name__
    ]
    assert {type(part).__name__ for part in norms} == {
        "FrozenBatchNorm2d" if norm == "frozen" else "BatchNorm2d"
    }
    if name != MOBILE:
        assert {part.eps for part in norms} == {epsilon}
    again = build_detector(config.without_weights(), None, 80)
    assert described(again) == described(detector)


def test_coco_weights_out_of_reach_are_one_clear_line_that_says_what_to_do(monkeypatch):
    def unreachable(*_, **__):
        raise URLError("no route to host")

    weights = torchvision.models.get_model_weights("fasterrcnn_resnet50_fpn")["DEFAULT"]
    monkeypatch.setattr(type(weights), "get_state_dict", unreachable)
    with pytest.raises(
        UserError, match=r"could not reach .*outputs=91, \.labels=\[1, 2.*norm_epsilon=0\.0"
    ) as error:
        build_detector(TorchvisionConfig(weights="coco"), None, 80)
    assert "\n" not in str(error.value)


def test_names_of_older_files_are_taken(tmp_path):
    """torchvision's first files call layers of the pyramid and the heads otherwise; its modules know."""
    model = faster_rcnn()
    old = {}
    for key, value in model.state_dict().items():
        for part in ("fpn.inner_blocks", "fpn.layer_blocks", "rpn.head.conv"):
            key = (
                key.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
                if part in key
                else key
            )
        old[key.replace("rpn.head.conv.0", "rpn.head.conv")] = value
    assert old.keys() != model.state_dict().keys()
    torch.save(old, tmp_path / "old.pth")
    detector = build_detector(
        CONFIG.model_copy(update={"weights": str(tmp_path / "old.pth")}), None, 3
    )
    fresh = dict(model.named_parameters())
    assert all(
        torch.equal(parameter, fresh[name])
        for name, parameter in detector.network.named_parameters()
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"options": {"box_score_tresh": 0.1}},
            r"options\.box_score_tresh: FasterRCNN has no .*'box_score_thresh'",
        ),
        ({"options": {"num_classes": 4}}, r"options\.num_classes: FasterRCNN has no such setting"),
        (
            {"model": "retinanet_resnet50_fpn", "options": {"box_score_thresh": 0.1}},
            "RetinaNet has no such setting",
        ),
        (
            {"norm": "frozen"},
            r"detector: norm: random weights \(null\) cannot be frozen.*got 'frozen'$",
        ),
        (
            {"model": "ssd300_vgg16", "min_size": 512},
            r"ssd300_vgg16 has one size, \(300, 300\); got \(512, 300\)",
        ),
        ({"model": "fasterrcnn_resnet50"}, r"detector\.model: .*got 'fasterrcnn_resnet50'"),
    ],
)
def test_settings_that_the_model_does_not_have(values, message):
    with pytest.raises(UserError, match=message):
        TorchvisionConfig.parse(values, "detector")


def test_models_have_the_sizes_of_their_builders_unless_told_otherwise():
    assert (TorchvisionConfig().min_size, TorchvisionConfig().max_size) == (800, 1333)
    small = TorchvisionConfig.parse({"model": MOBILE}, "detector")
    assert (small.min_size, small.max_size) == (320, 640)
    assert build_detector(small, None, 2).network.transform.min_size == (320,)
    assert TorchvisionConfig.parse({"model": MOBILE, "min_size": 96}, "detector").min_size == 96


@torch.no_grad()
def test_a_size_of_its_own():
    config = TorchvisionConfig(model="ssdlite320_mobilenet_v3_large")
    detector = build_detector(config, STAGE, 3).eval()
    batch = detector.network.prepare(images((100, 130)))
    assert batch.pixels.shape == (1, 3, 320, 320)
