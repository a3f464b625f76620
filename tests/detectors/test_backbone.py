import pytest
import torch
import torchvision
from safetensors.torch import save_file

from postnms.detectors.backbone import build_backbone
from postnms.detectors.config import BackboneConfig, FasterRCNNConfig
from postnms.errors import UserError


def unchecked(**settings):
    """A small backbone with random weights, whatever is frozen of it."""
    return BackboneConfig(name="resnet18").model_copy(update=settings)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_levels_have_the_width_and_strides_of_the_pyramid(name):
    levels = build_backbone(BackboneConfig(name=name, fpn_channels=8))(torch.zeros(1, 3, 64, 96))
    assert list(levels) == ["0", "1", "2", "3", "pool"]
    assert [tuple(level.shape[1:]) for level in levels.values()] == [(8, 64 // s, 96 // s) for s in (4, 8, 16, 32)] + [
        (8, 1, 2)
    ]


@pytest.mark.parametrize(("layers", "first"), [(0, None), (1, "layer4"), (3, "layer2"), (5, "conv1")])
def test_trainable_layers_count_from_the_last(layers, first):
    body = build_backbone(unchecked(norm="trained", trainable_layers=layers)).body
    trained = [name.split(".")[0] for name, parameter in body.named_parameters() if parameter.requires_grad]
    assert (trained[0] if trained else None) == first


def test_frozen_norm_has_nothing_to_train():
    body = build_backbone(unchecked(norm="frozen", trainable_layers=5)).body
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
    body = build_backbone(BackboneConfig(name="resnet18", weights=str(path))).body
    assert torch.equal(body.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert torch.equal(body.bn1.running_var, state["bn1.running_var"])


def test_weights_that_do_not_fit_or_are_not_there(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(torchvision.models.resnet34(weights=None).state_dict(), path)
    with pytest.raises(UserError, match=r"weights.safetensors does not fit resnet18; first differences: \['layer1.2"):
        build_backbone(BackboneConfig(name="resnet18", weights=str(path)))
    with pytest.raises(UserError, match=r"expected 'imagenet' or a file, got 'nowhere\.pth'"):
        build_backbone(BackboneConfig(name="resnet18", weights="nowhere.pth"))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": _Evil()}, path)
    with pytest.raises(UserError, match="not a plain state dict"):
        build_backbone(BackboneConfig(name="resnet18", weights=str(path)))


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_files_that_hold_no_state_dict_are_refused(tmp_path, name):
    path = tmp_path / name
    torch.save(torch.zeros(3), path)
    with pytest.raises(UserError, match=f"{name} is not a plain state dict"):
        build_backbone(BackboneConfig(name="resnet18", weights=str(path)))


class _Evil:
    def __reduce__(self):
        return (print, ("this ran",))


def test_imagenet_weights_out_of_reach_are_one_clear_line(monkeypatch):
    from urllib.error import URLError

    weights = torchvision.models.get_model_weights("resnet18")["IMAGENET1K_V1"]

    def unreachable(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(type(weights), "get_state_dict", unreachable)
    with pytest.raises(UserError, match="could not reach torchvision's ImageNet weights of resnet18") as error:
        build_backbone(BackboneConfig(name="resnet18", weights="imagenet"))
    assert "\n" not in str(error.value)


def test_one_anchor_size_a_level():
    with pytest.raises(UserError, match="expected 5 sizes, one a pyramid level, got 2"):
        FasterRCNNConfig.parse({"anchor_sizes": [8, 16]}, "detector")
