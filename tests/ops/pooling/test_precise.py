"""Precise RoI pooling against the exact integral, bin by bin and piece by piece."""

import math
from itertools import pairwise

import pytest
import torch
from torch.autograd import gradcheck

from postnms.ops import pool_precisely, threads
from postnms.ops.pooling import precise

STRIDES = (4, 8)


def pyramid(dtype=torch.float64, channels=3):
    random = torch.Generator().manual_seed(0)
    return {
        str(i): torch.randn(2, channels, 14 >> i, 18 >> i, generator=random, dtype=dtype)
        for i in range(2)
    }


def some_boxes(dtype=torch.float64):
    """Within a cell, over many, on cell borders, across every border of the map, and outside."""
    boxes = [
        (5.1, 6.2, 6.9, 7.7),
        (1.3, 2.9, 60.4, 49.0),
        (8, 12, 24, 20),
        (-9.5, -3.2, 20.2, 31.0),
        (50.5, 40.1, 90.3, 70.7),
        (100, 100, 130, 120),
        (-40, -50, -20, -30),
        (2, 3, 2, 40),
        (7, 7, 7, 7),
        (0, 0, 250, 240),
    ]
    image = torch.tensor([0, 1] * (len(boxes) // 2))
    return torch.tensor(boxes, dtype=dtype), image


def value_at(plane, y, x):
    """The bilinear interpolant of a plane (H, W), 0 outside."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                share = (1 - abs(y - row)) * (1 - abs(x - column))
                total += share * float(plane[row, column])
    return total


def pieces(low, high):
    """Cut an interval at the whole numbers."""
    inner = [n for n in range(math.ceil(low), math.floor(high) + 1) if low < n < high]
    edges = [low, *inner, high]
    return pairwise(edges)


def integral(plane, x1, y1, x2, y2):
    """Between whole numbers the interpolant is bilinear: its mean is the value at the middle."""
    return sum(
        value_at(plane, (top + bottom) / 2, (left + right) / 2) * (bottom - top) * (right - left)
        for top, bottom in pieces(y1, y2)
        for left, right in pieces(x1, x2)
    )


def oracle(features, boxes, image, strides, cells):
    out = torch.zeros(len(boxes), features["0"].shape[1], cells, cells, dtype=torch.float64)
    for r, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        side = math.sqrt((x2 - x1) * (y2 - y1))
        exact = 4 + math.log2(side / 224) if side else -math.inf
        level = 1 if exact >= 3 else 0
        x1, y1, x2, y2 = (value / strides[level] for value in (x1, y1, x2, y2))
        width, height = (x2 - x1) / cells, (y2 - y1) / cells
        if not width * height:
            continue
        for c, plane in enumerate(features[str(level)][image[r]]):
            for i in range(cells):
                for j in range(cells):
                    where = (x1 + j * width, y1 + i * height)
                    ends = (x1 + (j + 1) * width, y1 + (i + 1) * height)
                    out[r, c, i, j] = integral(plane, *where, *ends) / (width * height)
    return out


@pytest.mark.parametrize("cells", [1, 3])
@pytest.mark.parametrize("most", [1, 200, precise.WINDOW_NUMBERS])
def test_it_is_the_exact_integral(monkeypatch, cells, most):
    monkeypatch.setattr(precise, "WINDOW_NUMBERS", most)
    features, (boxes, image) = pyramid(), some_boxes()
    pooled = pool_precisely(features, boxes, image, STRIDES, cells)
    expected = oracle(features, boxes, image, STRIDES, cells)
    assert expected.abs().max() > 0.3
    torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-12)
    # What needs a gradient is pooled by torch, everything else by a kernel.
    by_torch = pool_precisely(features, boxes.requires_grad_(), image, STRIDES, cells)
    torch.testing.assert_close(by_torch, expected, rtol=0, atol=1e-12)


def test_gradients_reach_the_features_and_the_boxes():
    features = {name: level[:, :1].clone() for name, level in pyramid().items()}
    boxes, image = some_boxes()
    # On a cell border the gradient of the interpolant jumps, so boxes on one are left out.
    rows = [0, 1, 3, 4]
    boxes, image = boxes[rows], image[rows]

    def pool(first, second, where):
        return pool_precisely({"0": first, "1": second}, where, image, STRIDES, 2)

    given = [*features.values(), boxes]
    assert gradcheck(pool, [tensor.requires_grad_() for tensor in given])


def test_no_gradient_is_lost_or_nan_without_an_area():
    boxes, image = some_boxes()
    boxes.requires_grad_()
    pooled = pool_precisely(pyramid(), boxes, image, STRIDES, 3)
    pooled.square().sum().backward()
    assert torch.isfinite(boxes.grad).all()
    assert (boxes.grad[:5] != 0).any(dim=1).all()
    assert not pooled[5:9].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_it_keeps_the_dtype_of_the_features_and_sums_in_float32(dtype):
    features = {name: level.to(dtype) for name, level in pyramid().items()}
    boxes, image = some_boxes()
    pooled = pool_precisely(features, boxes.to(torch.float32), image.int(), STRIDES, 3)
    assert pooled.dtype == dtype
    exact = {name: level.double() for name, level in features.items()}
    expected = pool_precisely(exact, boxes, image, STRIDES, 3)
    torch.testing.assert_close(pooled, expected.to(dtype), rtol=1e-2, atol=1e-2)
    boxes = boxes.to(torch.float32).requires_grad_()
    by_torch = pool_precisely(features, boxes, image.int(), STRIDES, 3)
    torch.testing.assert_close(by_torch, pooled, rtol=1e-2, atol=1e-2)


def test_autocast_does_not_lower_the_precision():
    level = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    boxes = torch.tensor([[3.3, 4.1, 20.7, 25.2]], requires_grad=True)
    where = boxes, torch.zeros(1, dtype=torch.int64), [4], 2
    expected = pool_precisely({"0": level}, *where)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pool_precisely({"0": level}, *where)
    assert torch.equal(pooled, expected)
    gradients = (torch.autograd.grad(part.sum(), (level, boxes)) for part in (pooled, expected))
    for own, wanted in zip(*gradients, strict=True):
        assert torch.equal(own, wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_several_threads_give_the_same(monkeypatch, dtype):
    features = {name: level.to(dtype) for name, level in pyramid().items()}
    boxes, image = some_boxes(torch.float32)
    expected = pool_precisely(features, boxes, image, STRIDES, 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(threads, "LEAST_WORK", 0)
    assert torch.equal(pool_precisely(features, boxes, image, STRIDES, 3), expected)


def test_no_channels_give_empty_rows_with_a_gradient_too():
    boxes = torch.tensor([[0.0, 0, 20, 20]], requires_grad=True)
    nothing = {"0": torch.zeros(1, 0, 8, 8)}
    assert pool_precisely(nothing, boxes, torch.zeros(1).long(), [4], 2).shape == (1, 0, 2, 2)


def test_no_boxes_give_no_rows():
    pooled = pool_precisely(pyramid(), torch.zeros(0, 4), torch.zeros(0).long(), STRIDES, 3)
    assert pooled.shape == (0, 3, 3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": 0}, "cells: expected an integer >= 1"),
        ({"boxes": torch.tensor([[3.0, 0, 1, 1]])}, "boxes"),
        ({"boxes": torch.tensor([[0.0, 0, float("nan"), 1]])}, "boxes"),
        ({"image": torch.tensor([2])}, "image: expected values from 0 to 1"),
        ({"strides": [4]}, "strides: expected 2"),
    ],
)
def test_bad_arguments_are_named(change, message):
    boxes, image = torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([0])
    call = {"features": pyramid(), "boxes": boxes, "image": image, "strides": STRIDES, "cells": 3}
    with pytest.raises(ValueError, match=message):
        pool_precisely(**call | change)
