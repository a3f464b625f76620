"""The two orders of the decoupling layer, and which of them is taken."""

import pytest
import torch
from torch import nn

from postnms.clustering import cluster
from postnms.ops.pooling.roi_align import level_of, pool_pyramid
from postnms.stage import PostNMSStage, StageConfig, decoupling
from postnms.stage.decoupling import DecouplingLayer
from postnms.structures import REFINED, Candidates, Level

LEVELS = {"fine": Level(6, 4), "coarse": Level(6, 8)}
UNEQUAL = {"fine": Level(3, 4), "coarse": Level(5, 8)}
STRIDES = [4, 8]


def features_of(levels, images=2):
    random = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(
            images, level.channels, 128 // level.stride, 160 // level.stride, generator=random
        )
        for name, level in levels.items()
    }


def some_boxes(count):
    random = torch.Generator().manual_seed(1)
    coarse = (torch.arange(count) % 2 == 1)[:, None]
    corner = torch.rand(count, 2, generator=random) * torch.where(coarse, 10, 100)
    size = torch.where(coarse, 115, 20) + 3 * torch.rand(count, 2, generator=random)
    return torch.cat([corner, corner + size], 1), torch.randint(2, (count,), generator=random)


def spied(layer):
    """How many times each convolution of the layer has run on whole levels."""
    calls = []
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("levels", [LEVELS, UNEQUAL])
def test_both_orders_give_the_same(monkeypatch, levels):
    torch.manual_seed(0)
    layer, features, (boxes, image) = (
        DecouplingLayer(levels, 6),
        features_of(levels),
        some_boxes(40),
    )
    assert level_of(boxes, STRIDES).bincount().tolist() == [20, 20]
    calls = spied(layer)
    found = {}
    for order, pixels in (("convolved first", 1e9), ("at the boxes", 0.0)):
        monkeypatch.setattr(decoupling, "PIXELS_OF_A_CELL", pixels)
        layer.zero_grad()
        pooled = layer.pooler(features, STRIDES, 7, len(boxes))(boxes, image)
        (pooled * pooled).sum().backward()
        found[order] = [pooled, *(parameter.grad.clone() for parameter in layer.parameters())]
        calls.append(order)
    assert calls == [1, 1, "convolved first", "at the boxes"]
    for first, second in zip(*found.values(), strict=True):
        torch.testing.assert_close(
            second, first, rtol=1e-4, atol=1e-4 * float(first.detach().abs().max())
        )


def test_the_number_of_boxes_decides(monkeypatch):
    """Levels have 2 x (32 x 40 + 16 x 20) = 3,200 pixels, 43 boxes 2,107 cells of 1.5: 3,160."""
    monkeypatch.setattr(decoupling, "PIXELS_OF_A_CELL", 1.5)
    layer, features = DecouplingLayer(LEVELS, 6), features_of(LEVELS)
    calls = spied(layer)
    layer.pooler(features, STRIDES, 7, 43)
    assert calls == []
    layer.pooler(features, STRIDES, 7, 44)
    assert calls == [1, 1]


def test_other_devices_convolve_whatever_the_number():
    layer = DecouplingLayer(LEVELS, 6).to("meta")
    calls = spied(layer)
    layer.pooler(
        {name: level.to("meta") for name, level in features_of(LEVELS).items()}, STRIDES, 7, 1
    )
    assert calls == [1, 1]


def test_judging_many_candidates_convolves_once(monkeypatch):
    """Whatever the number taken at a time, which must not count as the number of boxes."""
    monkeypatch.setattr("postnms.stage.stage.ROWS_AT_ONCE", 10)
    torch.manual_seed(0)
    stage, features, (boxes, image) = (
        PostNMSStage(StageConfig(width=8), LEVELS, 3),
        features_of(LEVELS),
        some_boxes(60),
    )
    stage.eval()
    calls = spied(stage.decoupling)
    labels, source = torch.arange(60) % 3, torch.arange(60)
    candidates = Candidates(boxes, torch.rand(60), labels, image, source, num_images=2)
    clusters = cluster(candidates)
    with torch.no_grad():
        moved = stage.judge(features, [(128, 160)] * 2, clusters)[REFINED]
        assert calls == [1, 1]
        monkeypatch.setattr(decoupling, "PIXELS_OF_A_CELL", 0.0)
        torch.testing.assert_close(
            stage.judge(features, [(128, 160)] * 2, clusters)[REFINED], moved, rtol=1e-4, atol=1e-3
        )
    assert calls == [1, 1]


def test_no_box_at_all():
    layer, features = DecouplingLayer(LEVELS, 6), features_of(LEVELS)
    pooled = layer.pooler(features, STRIDES, 7, 0)(
        torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    )
    assert pooled.shape == (0, 6, 7, 7)
    pooled.sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_plain_order_is_convolution_then_pooling(monkeypatch):
    monkeypatch.setattr(decoupling, "PIXELS_OF_A_CELL", 1e9)
    layer, features, (boxes, image) = DecouplingLayer(LEVELS, 6), features_of(LEVELS), some_boxes(9)
    convolved = {name: layer.conv(level) for name, level in features.items()}
    expected = pool_pyramid(convolved, boxes, image, STRIDES, 7)
    assert torch.equal(layer.pooler(features, STRIDES, 7, len(boxes))(boxes, image), expected)
