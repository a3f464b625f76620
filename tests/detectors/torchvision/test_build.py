"""Settings that name one of torchvision's detectors, and the weights that they name."""

from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model

from postnms import UserError, from_torchvision
from postnms.detectors import TorchvisionConfig, build_detector
from postnms.detectors.parts.frozen_norm import FrozenNorm
from postnms.recipes import get_recipe
from tests.support.detectors import MOBILE, STAGE, TWO, images, small_faster_rcnn

CONFIG = TorchvisionConfig(model=MOBILE, min_size=96, max_size=160)


def test_a_recipe_names_a_model_by_its_builder():
    recipe = get_recipe(
        "demo", {"detector": {"kind": "torchvision", "model": MOBILE, "min_size": 64}}
    )
    detector = build_detector(recipe.detector, recipe.stage, 5)
    assert detector.network.num_classes == 5
    assert detector.network.transform.min_size == (64,)
    assert "box_head" in dict(detector.network.roi_heads.named_children())
    dense = build_detector(CONFIG.model_copy(update={"model": "retinanet_resnet50_fpn"}), None, 5)
    assert dense.network.head.classification_head.num_classes == 5


@torch.no_grad()
def test_weights_of_a_file_with_more_outputs_than_classes(tmp_path):
    model = small_faster_rcnn()
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
        detector.network.classes,
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
    assert detector.network.classes.of_class[:12] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)
    norms = [
        part
        for part in detector.network.backbone.modules()
        if isinstance(part, torch.nn.BatchNorm2d | FrozenNorm)
    ]
    assert {type(part).__name__ for part in norms} == {
        "FrozenNorm" if norm == "frozen" else "BatchNorm2d"
    }
    if name != MOBILE:
        assert {part.eps for part in norms} == {epsilon}
    again = build_detector(config.without_weights(80), None, 80)
    assert described(again) == described(detector)


PREDICTORS = "roi_heads.box_predictor.cls_score, roi_heads.box_predictor.bbox_pred"


@pytest.fixture
def coco(monkeypatch):
    """Random weights in the place of torchvision's file of COCO weights."""
    weights = torchvision.models.get_model_weights(MOBILE)["DEFAULT"]
    state = small_faster_rcnn(num_classes=91).state_dict()
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: state)
    return state


@pytest.mark.parametrize(("classes", "why"), [(5, "91 -> 6 outputs"), (90, "other classes")])
def test_coco_weights_start_a_detector_of_other_classes(coco, caplog, classes, why):
    config = CONFIG.model_copy(update={"weights": "coco", "norm": "frozen"})
    detector = build_detector(config, STAGE, classes)
    assert caplog.messages == [f"detector.weights: coco: renewed: {PREDICTORS} ({why})"]
    found = detector.network.state_dict()
    kept = {name for name in found if torch.equal(found[name], coco[name])}
    assert {name for name in found if "box_predictor" in name} == found.keys() - kept
    again = build_detector(config.without_weights(classes), STAGE, classes)
    assert described(again) == described(detector)
    again.load_state_dict(detector.state_dict())
    for strict in ({"frozen": True}, {"exact_weights": True}):
        if classes == 5:
            with pytest.raises(
                UserError, match=r"cls_score\.weight has shape \(91, 1024\), expected"
            ):
                build_detector(config, STAGE, classes, **strict)


def test_chosen_labels_of_the_coco_weights_keep_the_layers_of_their_classes(coco, caplog):
    config = CONFIG.model_copy(update={"weights": "coco", "labels": (18, 17, 3)})
    detector = build_detector(config, None, 3)
    found = detector.network.state_dict()
    assert all(torch.equal(found[name], coco[name]) for name in found)
    assert detector.network.classes.of_class == (18, 17, 3)
    assert caplog.messages == []


def test_a_file_of_other_classes_and_with_masks_starts_a_detector(tmp_path, caplog):
    state = small_faster_rcnn(num_classes=7).state_dict()
    state |= {f"roi_heads.mask_head.{n}.0.weight": torch.ones(2, 2, 3, 3) for n in range(4)}
    path = tmp_path / "model.pth"
    torch.save({"model": state, "epoch": 3}, path)
    config = CONFIG.model_copy(update={"weights": str(path)})
    found = build_detector(config, None, 2).network.state_dict()
    assert torch.equal(found["rpn.head.cls_logits.bias"], state["rpn.head.cls_logits.bias"])
    assert caplog.messages == [
        f"detector.weights: {path}: renewed: {PREDICTORS} (7 -> 3 outputs); "
        "unused: roi_heads.mask_head (4 tensors)"
    ]


def test_coco_weights_out_of_reach_say_nothing_of_labels_that_other_classes_do_not_have(
    monkeypatch,
):
    def unreachable(*_, **__):
        raise URLError("no route to host")

    weights = torchvision.models.get_model_weights("fasterrcnn_resnet50_fpn")["DEFAULT"]
    monkeypatch.setattr(type(weights), "get_state_dict", unreachable)
    with pytest.raises(UserError, match=r"set detector\.weights to its path, \.norm_epsilon=0\.0$"):
        build_detector(TorchvisionConfig(weights="coco"), None, 5)


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
    """torchvision's first files have other names for layers of the pyramid and the heads."""
    model = small_faster_rcnn()
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
        ({"options": {"rpn_head": 1}}, r"options\.rpn_head: FasterRCNN has no such setting"),
        ({"options": {"min_size": 64}}, r"options\.min_size: FasterRCNN has no such setting"),
        (
            {"options": {"box_detections_per_img": 0.5}},
            r"options\.box_detections_per_img: expected an integer, got 0\.5",
        ),
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
