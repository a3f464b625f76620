"""Backbones with a pyramid: their levels, what is frozen of them, and their weights."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from postnms.detectors import BackboneConfig
from postnms.detectors.parts.backbone import ARCHITECTURES, build_backbone, levels_of
from postnms.errors import UserError


def unchecked(**settings):
    """A small backbone with random weights, whatever is frozen of it."""
    return BackboneConfig(name="resnet18").model_copy(update=settings)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_levels_have_the_width_and_strides_of_the_pyramid(name):
    levels = build_backbone(BackboneConfig(name=name, fpn_channels=8), 2)(torch.zeros(1, 3, 64, 96))
    assert list(levels) == ["0", "1", "2", "3", "pool"]
    assert [tuple(level.shape[1:]) for level in levels.values()] == [
        (8, 64 // s, 96 // s) for s in (4, 8, 16, 32)
    ] + [(8, 1, 2)]


@pytest.mark.parametrize(
    ("layers", "first"), [(0, None), (1, "layer4"), (3, "layer2"), (5, "conv1")]
)
def test_trainable_layers_count_from_the_last(layers, first):
    body = build_backbone(unchecked(norm="trained", trainable_layers=layers), 2).body
    trained = [
        name.split(".")[0] for name, parameter in body.named_parameters() if parameter.requires_grad
    ]
    assert (trained[0] if trained else None) == first


def test_frozen_norm_has_nothing_to_train():
    body = build_backbone(unchecked(norm="frozen", trainable_layers=5), 2).body
    assert not any("bn" in name for name, _ in body.named_parameters())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_local_file(tmp_path, suffix):
    torch.manual_seed(0)
    state = torchvision.models.resnet18(weights=None).state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    body = build_backbone(BackboneConfig(name="resnet18", weights=str(path)), 2).body
    assert torch.equal(body.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert torch.equal(body.bn1.running_var, state["bn1.running_var"])


def test_weights_that_do_not_fit_or_are_not_there(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(torchvision.models.resnet34(weights=None).state_dict(), path)
    with pytest.raises(
        UserError, match=r"for resnet18: .* layer1\.2\.bn1\.bias is not in the model"
    ):
        build_backbone(BackboneConfig(name="resnet18", weights=str(path)), 2)
    with pytest.raises(
        UserError, match=r"weights \(if not 'imagenet'\): expected a file, got 'nowhere\.pth'"
    ):
        build_backbone(BackboneConfig(name="resnet18", weights="nowhere.pth"), 2)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": _Evil()}, path)
    with pytest.raises(UserError, match="not a plain state dict"):
        build_backbone(BackboneConfig(name="resnet18", weights=str(path)), 2)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_files_that_hold_no_state_dict_are_refused(tmp_path, name):
    path = tmp_path / name
    torch.save(torch.zeros(3), path)
    with pytest.raises(UserError, match=f"{name} is not a plain state dict"):
        build_backbone(BackboneConfig(name="resnet18", weights=str(path)), 2)


class _Evil:
    def __reduce__(self):
        return (print, ("this ran",))


def test_imagenet_weights_out_of_reach_are_one_clear_line(monkeypatch):
    from urllib.error import URLError

    weights = torchvision.models.get_model_weights("resnet18")["IMAGENET1K_V1"]

    def unreachable(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(type(weights), "get_state_dict", unreachable)
    with pytest.raises(
        UserError, match="could not reach torchvision's ImageNet weights of resnet18"
    ) as error:
        build_backbone(BackboneConfig(name="resnet18", weights="imagenet"), 2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_large", "resnext101_32x4d"])
@pytest.mark.parametrize(("first", "strides"), [(2, (4, 8, 16, 32, 64)), (3, (8, 16, 32, 64, 128))])
def test_levels_are_what_the_pyramid_gives(name, first, strides):
    config = BackboneConfig(name=name, fpn_channels=8)
    maps = build_backbone(config, first)(torch.zeros(1, 3, 128, 128))
    assert [128 // level.shape[2] for level in maps.values()] == list(strides)
    levels = levels_of(config, range(first, 8 if first == 3 else 6))
    assert [level.stride for level in levels.values()] == list(strides)[: len(levels)]
    assert list(levels) == list(maps)[: len(levels)]


def test_resnext_has_the_published_size():
    """32x4d: 44.2 M parameters with the classifier of 2.05 M (arXiv 1611.05431, Table 1)."""
    body = build_backbone(BackboneConfig(name="resnext101_32x4d", fpn_channels=8), 2).body
    assert sum(parameter.numel() for parameter in body.parameters()) == pytest.approx(
        44.18e6 - 2.05e6, rel=2e-3
    )


def test_mobilenet_takes_weights_of_the_whole_classifier(tmp_path):
    torch.manual_seed(0)
    state = torchvision.models.mobilenet_v3_large(weights=None).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    config = BackboneConfig(
        name="mobilenet_v3_large", weights=str(tmp_path / "weights.safetensors"), norm="frozen"
    )
    body = build_backbone(config, 2).body
    assert torch.equal(body["16"][0].weight, state["features.16.0.weight"])
    assert body["0"][1].eps == 1e-3
    fewer = BackboneConfig(name="mobilenet_v3_large", weights=config.weights, trainable_layers=2)
    parts = [
        name.split(".")[0]
        for name, p in build_backbone(fewer, 2).body.named_parameters()
        if p.requires_grad
    ]
    assert parts[0] == "7"


def test_a_backbone_without_imagenet_weights_is_one_clear_line():
    with pytest.raises(
        UserError, match=r"torchvision has no ImageNet weights of resnext101_32x4d; fetch a file"
    ):
        build_backbone(BackboneConfig(name="resnext101_32x4d", weights="imagenet"), 2)
