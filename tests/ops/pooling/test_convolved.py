"""Pooling as if the pyramid had been convolved, against convolving it first."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from postnms.ops import threads
from postnms.ops.pooling import convolved as roi_align_conv
from postnms.ops.pooling.convolved import pool_convolved
from postnms.ops.pooling.roi_align import pool_pyramid

STRIDES = (4, 8)


def pyramid(dtype=torch.float32, channels=5):
    random = torch.Generator().manual_seed(0)
    return {
        str(i): torch.randn(
            2, channels, 32 >> i, 40 >> i, generator=random, dtype=dtype, requires_grad=True
        )
        for i in range(2)
    }


def layer(channels=5, out=6, dtype=torch.float32):
    random = torch.Generator().manual_seed(1)
    weight = torch.randn(out, channels, 3, 3, generator=random, dtype=dtype, requires_grad=True)
    return weight, torch.randn(out, generator=random, dtype=dtype, requires_grad=True)


def some_boxes(dtype=torch.float32):
    """Inside, at all borders, whole images, tiny, and without an extent at the far corners."""
    random = torch.Generator().manual_seed(2)
    limit = torch.tensor([160.0, 128.0, 160.0, 128.0])
    corner = torch.rand(60, 2, generator=random) * limit[:2]
    boxes = torch.cat([corner, corner + torch.rand(60, 2, generator=random) * 150], 1).minimum(
        limit
    )
    odd = [
        (0, 0, 160, 128),
        (160, 128, 160, 128),
        (160, 0, 160, 128),
        (0, 128, 160, 128),
        (0, 0, 0, 0),
        (3, 3, 3.1, 3),
    ]
    boxes = torch.cat([boxes, torch.tensor(odd, dtype=torch.float32)]).to(dtype)
    return boxes, torch.randint(2, (len(boxes),), generator=random)


def plain(features, boxes, image, strides, weight, bias, cells=7):
    convolved = {name: F.conv2d(level, weight, bias, padding=1) for name, level in features.items()}
    return pool_pyramid(convolved, boxes, image, strides, cells)


def on_other_devices(features, boxes, image, strides, weight, bias, cells=7):
    return roi_align_conv._tap_by_tap(features, boxes, image, strides, weight, bias, cells).permute(
        0, 3, 1, 2
    )


def gradients(pooled, leaves):
    given = torch.randn(
        pooled.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    return torch.autograd.grad((pooled * given.to(pooled.dtype)).sum(), leaves)


@pytest.mark.parametrize("pool", [pool_convolved, on_other_devices])
def test_values_and_gradients_are_those_of_the_plain_order(pool):
    features, (boxes, image), (weight, bias) = pyramid(), some_boxes(), layer()
    leaves = [weight, bias, *features.values()]
    expected = plain(features, boxes, image, STRIDES, weight, bias)
    found = pool(features, boxes, image, STRIDES, weight, bias)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for mine, theirs in zip(gradients(found, leaves), gradients(expected, leaves), strict=True):
        assert theirs.abs().sum() > 0
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("pool", [pool_convolved, on_other_devices])
@settings(max_examples=60, deadline=None)
@given(
    corner=st.tuples(st.integers(0, 40), st.integers(0, 32)),
    side=st.tuples(st.integers(0, 40), st.integers(0, 32)),
    cells=st.sampled_from([1, 2, 7]),
)
def test_any_box_on_one_level(pool, corner, side, cells):
    features = {"0": torch.randn(1, 3, 16, 20, generator=torch.Generator().manual_seed(0))}
    weight, bias = (part.detach() for part in layer(3, 4))
    x, y = corner
    box = torch.tensor([[x, y, min(x + side[0], 40), min(y + side[1], 32)]], dtype=torch.float32)
    where = box, torch.zeros(1, dtype=torch.int64), [2], weight, bias, cells
    torch.testing.assert_close(
        pool(features, *where), plain(features, *where), rtol=1e-4, atol=1e-4
    )


def test_gradients_are_right_in_double_precision():
    level = torch.randn(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor(
        [[0.3, 1.2, 7.9, 9.4], [2.0, 2.0, 10.0, 12.0], [10.0, 12.0, 10.0, 12.0]]
    ).double()
    image = torch.zeros(3, dtype=torch.int64)
    inputs = (level, *layer(2, 3, torch.float64))
    assert torch.autograd.gradcheck(
        lambda x, w, b: pool_convolved({"0": x}, boxes, image, [2], w, b, 3), inputs
    )


def test_many_boxes_are_taken_some_at_a_time(monkeypatch):
    features, (boxes, image), (weight, bias) = pyramid(), some_boxes(), layer()
    whole = pool_convolved(features, boxes, image, STRIDES, weight, bias)
    of_whole = gradients(whole, [weight, bias, *features.values()])
    monkeypatch.setattr(roi_align_conv, "ROWS_AT_ONCE", 7)
    found = pool_convolved(features, boxes, image, STRIDES, weight, bias)
    torch.testing.assert_close(found, whole)
    for mine, theirs in zip(
        gradients(found, [weight, bias, *features.values()]), of_whole, strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_autocast_computes_in_bfloat16_as_it_does_for_a_convolution():
    features, (boxes, image), (weight, bias) = pyramid(), some_boxes(), layer()
    with torch.autocast("cpu", torch.bfloat16):
        found = pool_convolved(features, boxes, image, STRIDES, weight, bias)
        expected = plain(features, boxes, image, STRIDES, weight, bias)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.15)
    found.float().sum().backward()
    assert weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_change_no_bit(dtype, monkeypatch):
    """Three are more than images: they share the channels of one."""
    features, (boxes, image), (weight, bias) = pyramid(dtype), some_boxes(), layer(dtype=dtype)
    leaves = [weight, bias, *features.values()]
    monkeypatch.setattr(threads, "LEAST_WORK", 0)
    results = []
    for count in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        pooled = pool_convolved(features, boxes, image, STRIDES, weight, bias)
        results.append([pooled, *gradients(pooled, leaves)])
    for other in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(other, results[0], strict=True))


@pytest.mark.parametrize("pool", [pool_convolved, on_other_devices])
def test_no_box_gives_a_differentiable_empty(pool):
    features, (weight, bias) = pyramid(), layer()
    pooled = pool(
        features, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), STRIDES, weight, bias
    )
    assert pooled.shape == (0, 6, 7, 7)
    pooled.sum().backward()
    assert weight.grad.abs().sum() == 0
    assert features["0"].grad.abs().sum() == 0
