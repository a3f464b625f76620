"""RoIAlign over a pyramid against torchvision's, forward and back, in every dtype."""

import numba
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.ops import MultiScaleRoIAlign

from postnms.ops import threads
from postnms.ops.pooling.roi_align import pool_pyramid

STRIDES = (4, 8, 16, 32)


def pyramid(dtype=torch.float32, channels=5, seed=0):
    random = torch.Generator().manual_seed(seed)
    return {
        str(i): torch.randn(
            2, channels, 32 >> i, 40 >> i, generator=random, dtype=dtype, requires_grad=True
        )
        for i in range(4)
    }


def some_boxes(count, seed=0):
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random) * torch.tensor([150.0, 118.0])
    boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=random) * 140], 1)
    limit = torch.tensor([160.0, 128.0, 160.0, 128.0])
    boxes = torch.where(
        torch.arange(count)[:, None] % 5 == 0,
        limit * torch.tensor([0.0, 0, 1, 1]),
        boxes.minimum(limit),
    )
    return boxes, torch.randint(2, (count,), generator=random)


def test_pooling_a_pyramid_equals_torchvision_forward_and_backward():
    features, sizes = pyramid(), [(128, 160), (120, 130)]
    boxes, image = some_boxes(60)
    order = image.argsort(stable=True)
    theirs = MultiScaleRoIAlign(list(features), 7, 2)
    expected = theirs(features, [boxes[image == i] for i in range(2)], sizes)
    found = pool_pyramid(features, boxes, image, STRIDES)
    torch.testing.assert_close(found[order], expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad((expected * weights).sum(), list(features.values()))
    got = torch.autograd.grad((found[order] * weights).sum(), list(features.values()))
    assert all(gradient.abs().sum() > 0 for gradient in wanted[:2])
    for mine, their in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, their, rtol=1e-5, atol=2e-5)


@settings(max_examples=60, deadline=None)
@given(
    corner=st.tuples(st.integers(0, 40), st.integers(0, 32)),
    side=st.tuples(st.integers(0, 40), st.integers(0, 32)),
    cells=st.sampled_from([1, 2, 7]),
    samples=st.sampled_from([1, 2, 3]),
)
def test_one_level_equals_torchvision_at_borders_and_for_tiny_boxes(corner, side, cells, samples):
    features = torch.randn(1, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    x, y = corner
    box = torch.tensor([[x, y, min(x + side[0], 40), min(y + side[1], 32)]], dtype=torch.float32)
    found = pool_pyramid(
        {"0": features}, box, torch.zeros(1, dtype=torch.int64), [2], cells, samples
    )
    expected = torchvision.ops.roi_align(features, [box], cells, 0.5, samples)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_gradient_is_right_in_double_precision():
    features = torch.randn(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0.3, 1.2, 7.9, 9.4], [2.0, 2.0, 4.5, 11.0]])
    image = torch.zeros(2, dtype=torch.int64)
    assert torch.autograd.gradcheck(
        lambda x: pool_pyramid({"0": x}, boxes.double(), image, [2], 3), features
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_output_has_the_dtype_of_the_features(dtype):
    boxes, image = some_boxes(4)
    features = {name: level.detach().to(dtype) for name, level in pyramid().items()}
    assert pool_pyramid(features, boxes, image, STRIDES).dtype == dtype


def test_the_other_devices_path_is_torchvisions():
    """float16 has no CPU kernel here and takes the path of other devices: float32, rounded once."""
    boxes, image = some_boxes(30)
    levels = {name: level.detach().half() for name, level in pyramid().items()}
    whole = pool_pyramid(
        {name: level.float() for name, level in levels.items()}, boxes, image, STRIDES
    )
    torch.testing.assert_close(
        pool_pyramid(levels, boxes, image, STRIDES), whole.half(), rtol=2e-3, atol=1e-3
    )


def test_bfloat16_is_float32_rounded_once():
    boxes, image = some_boxes(30)
    random = torch.Generator().manual_seed(2)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        features = {name: level.detach().bfloat16().to(dtype) for name, level in pyramid().items()}
        for level in features.values():
            level.requires_grad_()
        pooled = pool_pyramid(features, boxes, image, STRIDES)
        pooled.backward(
            torch.randn(pooled.shape, generator=random.manual_seed(2)).bfloat16().to(dtype)
        )
        found[dtype] = [pooled, *(level.grad for level in features.values())]
    for exact, rounded in zip(found[torch.float32], found[torch.bfloat16], strict=True):
        assert torch.equal(exact.bfloat16(), rounded)


def test_no_box_gives_a_differentiable_empty():
    features = pyramid()
    pooled = pool_pyramid(features, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), STRIDES)
    assert pooled.shape == (0, 5, 7, 7)
    pooled.sum().backward()
    assert features["0"].grad is not None
    assert features["0"].grad.abs().sum() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_threads_change_no_bit(dtype, monkeypatch):
    features, (boxes, image) = pyramid(dtype), some_boxes(60)
    monkeypatch.setattr(threads, "LEAST_WORK", 0)
    results = []
    for count in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        pooled = pool_pyramid(features, boxes, image, STRIDES)
        gradients = torch.autograd.grad(pooled.square().sum(), list(features.values()))
        results.append([pooled, *gradients])
    for other in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(other, results[0], strict=True))


def test_pooling_sets_no_number_of_threads(monkeypatch):
    """Those of numba and of torch are the user's."""
    features, (boxes, image) = pyramid(), some_boxes(60)
    for library in (numba, torch):
        monkeypatch.setattr(library, "set_num_threads", lambda count: pytest.fail("set"))
    pool_pyramid(features, boxes, image, STRIDES).sum().backward()


def unusual(boxes, image):
    """The same boxes and images as other tensors hold them."""
    with torch.inference_mode():
        inference = boxes.clone(), image.clone()
    return {
        "columns first": (boxes.T.contiguous().T, image),
        "every second row": (boxes.repeat_interleave(2, 0)[::2], image.repeat_interleave(2)[::2]),
        "parameters": (torch.nn.Parameter(boxes), image),
        "made without autograd": inference,
        "double": (boxes.double(), image),
        "lazily negated": (torch._neg_view(-boxes), image),
        "small integers": (boxes, image.to(torch.uint8)),
        "boxes of torchvision": (
            tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(9, 9)),
            image,
        ),
    }


@pytest.mark.parametrize("name", unusual(*some_boxes(1)))
def test_unusual_tensors_are_read_right(name):
    features, (boxes, image) = pyramid(), some_boxes(20)
    expected = pool_pyramid(features, boxes, image, STRIDES)
    pooled = pool_pyramid(features, *unusual(boxes, image)[name], STRIDES)
    assert type(pooled) is torch.Tensor
    torch.testing.assert_close(pooled, expected)
    pooled.sum().backward()
    assert features["0"].grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("of_features", [torch.float32, torch.float16])
def test_boxes_in_half_precision_are_computed_in_float32(dtype, of_features):
    features = {name: level.detach().to(of_features) for name, level in pyramid().items()}
    boxes, image = some_boxes(20)
    half = boxes.to(dtype).sort(dim=1).values  # rounding could put a corner before the other
    expected = pool_pyramid(features, half.float(), image, STRIDES)
    assert torch.equal(pool_pyramid(features, half, image, STRIDES), expected)


@pytest.mark.parametrize(
    "change",
    [torch.Tensor.mT.__get__, lambda level: level[..., ::2], lambda level: torch._neg_view(-level)],
)
def test_levels_that_are_views(change):
    features, (boxes, image) = pyramid(), some_boxes(20)
    views = {name: change(level) for name, level in features.items()}
    copies = {name: view.detach().clone() for name, view in views.items()}
    found = pool_pyramid(views, boxes, image, STRIDES)
    assert torch.equal(found, pool_pyramid(copies, boxes, image, STRIDES))


def test_the_default_dtype_changes_nothing():
    features, (boxes, image) = pyramid(), some_boxes(20)
    expected = pool_pyramid(features, boxes, image, STRIDES)
    torch.set_default_dtype(torch.float64)
    try:
        found = pool_pyramid(features, boxes, image, STRIDES)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_boxes_whose_area_is_no_number_of_float32():
    """Infinitely wide ones, with and without a height. They reach far outside: the pooled is 0."""
    boxes = torch.tensor([[-3e38, 4, 3e38, 4], [-3e38, 0, 3e38, 8], [-3e38, -3e38, 3e38, 3e38]])
    pooled = pool_pyramid(pyramid(), boxes, torch.zeros(3, dtype=torch.int64), STRIDES, 2)
    assert pooled.shape == (3, 5, 2, 2)
    assert pooled.abs().sum() == 0
