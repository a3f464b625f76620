"""Batch norm that is not trained."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d, freeze_batch_norm_2d
from torch import nn

from postnms.detectors.parts.frozen_norm import FrozenNorm, freeze_norms

NORMS = {
    "torchvision": lambda: nn.BatchNorm2d(6),
    "timm": lambda: BatchNormAct2d(6, act_layer=nn.PReLU),
    "no weights": lambda: nn.BatchNorm2d(6, affine=False),
}


def network(norm):
    """A convolution and a norm with random statistics and weights, and an epsilon that shows."""
    torch.manual_seed(0)
    norm = NORMS[norm]()
    with torch.no_grad():
        for value in (*norm.parameters(), norm.running_mean):
            value.normal_()
        norm.running_var.uniform_(0.1, 2)
    norm.eps = 0.05
    return nn.Sequential(nn.Conv2d(3, 6, 3), norm)


def both(norm):
    """The network frozen here, and its twin frozen by timm, which takes torchvision's norm."""
    ours, theirs = network(norm), network(norm)
    freeze_norms(ours)
    return ours, freeze_batch_norm_2d(theirs)


@pytest.mark.parametrize("norm", NORMS)
def test_values_and_gradients_are_those_of_torchvisions_and_timms_norms(norm):
    ours, theirs = both(norm)
    assert isinstance(ours[1], FrozenNorm)
    assert not isinstance(theirs[1], FrozenNorm | nn.BatchNorm2d)
    pixels = torch.rand(2, 3, 9, 8)
    for part in (ours, theirs):
        (part.train()(pixels) ** 2).sum().backward()
    torch.testing.assert_close(ours(pixels), theirs(pixels), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours[0].weight.grad, theirs[0].weight.grad, rtol=1e-4, atol=1e-4)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    assert dict(ours.named_parameters()).keys() == dict(theirs.named_parameters()).keys()


@pytest.mark.parametrize("norm", NORMS)
def test_training_changes_no_statistics(norm):
    ours = network(norm)
    freeze_norms(ours)
    before = copy.deepcopy(ours[1].state_dict())
    ours.train()(torch.rand(2, 3, 9, 8))
    assert all(torch.equal(value, before[name]) for name, value in ours[1].state_dict().items())


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_maps_keep_their_type(kind):
    ours, theirs = both("torchvision")
    pixels = torch.rand(2, 3, 9, 8)
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
        assert ours(pixels).dtype == kind
        torch.testing.assert_close(ours(pixels).float(), theirs(pixels), rtol=1e-2, atol=1e-2)


def test_weights_of_a_norm_that_was_trained_can_be_loaded():
    ours, trained = network("torchvision"), network("torchvision")
    freeze_norms(ours)
    with torch.no_grad():
        trained[1].running_mean.add_(1)
    ours.load_state_dict(trained.state_dict())
    assert torch.equal(ours[1].running_mean, trained[1].running_mean)
