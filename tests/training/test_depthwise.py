"""Depthwise convolutions that compute in float32 on the CPU."""

import pytest
import torch
from torch import nn

from postnms.recipes import get_recipe, override, parse_changes
from postnms.training.depthwise import depthwise_in_float32
from tests.support.runs import TINY, run, tiny


def small(*changes):
    """The settings of tiny runs for a detector that lacks the fields of the demo's detector."""
    kept = [change for change in TINY if not change.startswith("detector.")]
    return get_recipe("demo", parse_changes([*kept, *changes]))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, groups=8, padding=1))


def test_only_depthwise_layers_leave_bfloat16():
    changed = network()
    maps = torch.rand(2, 8, 6, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), depthwise_in_float32(changed):
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
    maps = torch.rand(2, 8, 6, 5)
    with depthwise_in_float32(changed):
        assert torch.equal(plain(maps), changed(maps))
        assert plain.state_dict().keys() == changed.state_dict().keys()
        # Other precisions stay as they are.
        assert changed.double()(maps.double()).dtype == torch.float64


def test_layers_are_afterwards_as_they_were():
    changed = network()
    patched = network()[1].forward
    changed[1].forward = patched

    def fail():
        with depthwise_in_float32(changed):
            assert changed[1].forward is not patched
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert changed[1].forward is patched
    del changed[1].forward
    with depthwise_in_float32(changed):
        assert "forward" in vars(changed[1])
    assert all("forward" not in vars(layer) for layer in changed)


@pytest.mark.parametrize(
    "recipe",
    [
        tiny("detector.backbone.name=mobilenet_v3_large"),
        small('detector={"kind": "torchvision", "model": "ssdlite320_mobilenet_v3_large"}'),
    ],
    ids=["a backbone of a recipe", "a model of torchvision"],
)
def test_a_run_in_bfloat16_does_it_for_any_detector(tmp_path, before_steps, recipe):
    kinds = set()

    def watch(number, model):
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d) and layer.in_channels > 1:
                hook = lambda layer, _, made: kinds.add((layer.groups > 1, made.dtype))  # noqa: E731
                layer.register_forward_hook(hook)

    before_steps(watch)
    run(tmp_path, override(recipe, {"training.iterations": 1, "training.precision": "bf16"}))
    assert {(True, torch.float32), (False, torch.bfloat16)} <= kinds
    assert (True, torch.bfloat16) not in kinds
