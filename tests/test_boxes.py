"""Functions on boxes, by hand and against torchvision."""

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder

from postnms import boxes as B

corners = st.tuples(*[st.integers(0, 9)] * 2, *[st.integers(0, 6)] * 2).map(
    lambda t: (*t[:2], t[0] + t[2], t[1] + t[3])
)
box_lists = st.lists(corners, max_size=8).map(
    lambda rows: torch.tensor(rows, dtype=torch.float32).view(-1, 4)
)


def random_boxes(count, seed=0, least=1.0):
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random) * 100
    return torch.cat([corner, corner + least + torch.rand(count, 2, generator=random) * 50], 1)


@settings(deadline=None)
@given(first=box_lists, second=box_lists)
def test_pairwise_iou_equals_torchvision_where_that_is_defined(first, second):
    expected = torchvision.ops.box_iou(first, second).nan_to_num(0.0)
    torch.testing.assert_close(B.pairwise_iou(first, second), expected, rtol=0, atol=0)


def test_iou_by_hand():
    first = torch.tensor([[0.0, 0, 10, 10]])
    second = torch.tensor(
        [[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4], [3, 3, 3, 3]]
    )
    torch.testing.assert_close(
        B.pairwise_iou(first, second), torch.tensor([[1, 1 / 3, 0, 0.04, 0]])
    )


def test_iou_of_two_boxes_without_an_area_is_zero():
    point = torch.tensor([[3.0, 3, 3, 3]])
    assert B.pairwise_iou(point, point).tolist() == [[0.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_iou_of_half_precision_is_computed_in_float32(dtype):
    half = (random_boxes(20) * 4).to(dtype)
    found = B.pairwise_iou(half, half)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, B.pairwise_iou(half.float(), half.float()), rtol=0, atol=0)


def test_deltas_equal_torchvision_and_come_back():
    boxes, truths = random_boxes(50), random_boxes(50, seed=1)
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    deltas = B.encode_deltas(boxes, truths)
    torch.testing.assert_close(deltas, coder.encode_single(truths, boxes))
    torch.testing.assert_close(B.decode_deltas(boxes, deltas), truths, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(B.decode_deltas(boxes, deltas), coder.decode_single(deltas, boxes))


def test_deltas_by_hand():
    box, truth = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 10, 25, 50]])
    deltas = B.encode_deltas(box, truth, (1, 1, 1, 1))
    torch.testing.assert_close(deltas, torch.tensor([[1.0, 1.0, 0.6931472, 0.6931472]]))


def test_decoding_bounds_the_scale():
    huge = B.decode_deltas(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 1e6, 1e6]]))
    torch.testing.assert_close(huge[0, 2] - huge[0, 0], torch.tensor(2 * 62.5))


def test_clip_equals_torchvision_with_a_size_of_its_own_for_each_box():
    boxes = random_boxes(40) - 20
    sizes = torch.tensor([[60, 80], [30, 40]])
    image = torch.arange(40) % 2
    found = B.clip(boxes, sizes[image])
    for index in range(2):
        expected = torchvision.ops.clip_boxes_to_image(
            boxes[image == index], tuple(sizes[index].tolist())
        )
        torch.testing.assert_close(found[image == index], expected, rtol=0, atol=0)


def test_no_box_at_all():
    none = torch.zeros(0, 4)
    assert B.pairwise_iou(none, random_boxes(3)).shape == (0, 3)
    assert B.encode_deltas(none, none).shape == B.decode_deltas(none, none).shape == (0, 4)
    assert B.clip(none, torch.zeros(0, 2)).shape == (0, 4)
    assert B.area(none).shape == (0,)
