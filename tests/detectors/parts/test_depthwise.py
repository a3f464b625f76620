"""Depthwise convolutions that compute in float32 on the CPU."""

import copy
import pickle

import pytest
import torch
from torch import nn

from postnms.detectors import BackboneConfig
from postnms.detectors.parts.backbone import build_backbone
from postnms.detectors.parts.depthwise import use_float32_on_cpu


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, groups=8, padding=1))


def test_only_depthwise_layers_leave_bfloat16():
    changed = network()
    use_float32_on_cpu(changed)
    maps = torch.rand(2, 8, 6, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        inner = changed[0](maps)
        found = changed[1](inner)
    assert (inner.dtype, found.dtype) == (torch.bfloat16, torch.float32)
    expected = network()[1](inner.float())
    assert torch.equal(found, expected)
    found.sum().backward()
    assert changed[1].weight.grad.dtype == torch.float32
    assert maps.grad is not None


def test_without_autocast_nothing_changes():
    plain, changed = network(), network()
    use_float32_on_cpu(changed)
    maps = torch.rand(2, 8, 6, 5)
    assert torch.equal(plain(maps), changed(maps))
    assert plain.state_dict().keys() == changed.state_dict().keys()
    # Other precisions stay as they are.
    assert changed.double()(maps.double()).dtype == torch.float64


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_computes_with_its_own_weights(again):
    changed = network()
    use_float32_on_cpu(changed)
    copied = again(changed)
    with torch.no_grad():
        copied[1].weight.zero_()
        copied[1].bias.zero_()
    maps = torch.rand(2, 8, 6, 5)
    assert not copied(maps).any()
    assert changed(maps).any()


@pytest.mark.parametrize("name", ["timm/tf_efficientnet_lite0", "mobilenet_v3_large"])
def test_backbones_do_it(name):
    body = build_backbone(BackboneConfig(name=name, fpn_channels=8), 2).body
    kinds = []
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            hook = lambda layer, _, found: kinds.append((layer.groups > 1, found.dtype))  # noqa: E731
            layer.register_forward_hook(hook)
    with torch.autocast("cpu", torch.bfloat16):
        body(torch.rand(1, 3, 64, 64))
    assert set(kinds) == {(True, torch.float32), (False, torch.bfloat16)}
