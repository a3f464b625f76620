"""The Triton backend, and what passes between its blocks and tiles."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.ops import cluster_nms
from postnms.ops.clustering import reference
from tests.support.clustering import cluster_by, grids

pytest.importorskip("triton", reason="torch has no triton on this platform")

from postnms.ops.clustering import triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(params=[64, 128, 4096])
def block(request, monkeypatch):
    monkeypatch.setattr(triton, "BLOCK", request.param)
    # This is fewer than there are tiles behind a block.
    monkeypatch.setattr(triton, "CLAIMERS", 2)


def crowd(count, groups, seed, levels=4):
    """Boxes on a small integer grid, some without an area, for ties and exact thresholds."""
    random = torch.Generator().manual_seed(seed)

    def integers(high, *size):
        return torch.randint(high, size, generator=random)

    corner = integers(20, count, 2)
    boxes = torch.cat([corner, corner + integers(9, count, 2)], 1).float()
    return boxes, integers(levels, count) / levels, integers(groups, count) * 2**40


def assert_equals_the_reference(boxes, scores, groups, threshold):
    threshold = torch.tensor(threshold, dtype=boxes.dtype).item()
    expected = reference.cluster_nms(boxes, scores, groups, threshold)
    found = triton.cluster_nms(boxes.to(DEVICE), scores.to(DEVICE), groups.to(DEVICE), threshold)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]
    assert all(part.dtype == torch.int64 and part.device.type == DEVICE for part in found)
    return expected


@settings(max_examples=50, deadline=None)
@given(scene=grids(), threshold=st.sampled_from([0.0, 0.25, 0.3, 1 / 3, 0.5, 0.6, 1.0]))
def test_triton_equals_the_reference_on_a_grid(scene, threshold):
    """Each example is some milliseconds in the interpreter, so there are fewer than elsewhere."""
    expected = cluster_nms(*scene, threshold, backend="reference")
    found = cluster_by("triton", *scene, threshold)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("threshold", "groups"), [(0.0, 1), (0.3, 1), (0.3, 3), (0.3, 40), (1.0, 2)]
)
def test_many_blocks_equal_the_reference(block, threshold, groups, dtype):
    """From one group over all blocks to groups of a few, many of which lie across a border."""
    boxes, scores, groups = crowd(330, groups, seed=groups)
    assert_equals_the_reference(boxes.to(dtype), scores.to(dtype), groups, threshold)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 129])
def test_lengths_around_a_tile_and_a_block(block, count):
    assert_equals_the_reference(*crowd(count, groups=1, seed=count), 0.2)


def test_a_chain_alternates_across_tiles_and_blocks(block):
    """Each box overlaps only its neighbours, so that every decision hangs on all before it."""
    left = 4.0 * torch.arange(300)
    boxes = torch.stack([left, torch.zeros(300), left + 10, torch.ones(300)], 1)
    scores = torch.linspace(1, 0, 300)
    keys, assignment = assert_equals_the_reference(
        boxes, scores, torch.zeros(300, dtype=torch.int64), 0.4
    )
    assert keys.tolist() == list(range(0, 300, 2))
    assert assignment.tolist() == [row // 2 for row in range(300)]


def test_the_first_key_of_all_blocks_owns(block):
    """The last box overlaps two keys of different tiles and belongs to the better one."""
    boxes = torch.arange(200.0)[:, None] * 100 + torch.tensor([0.0, 0, 1, 1])
    boxes[[70, 135, 190]] = torch.tensor([[0, 0, 6, 2], [3, 0, 9, 2], [2, 0, 7, 2]]) - 1000.0
    scores = torch.linspace(1, 0, 200)
    keys, assignment = assert_equals_the_reference(
        boxes, scores, torch.zeros(200, dtype=torch.int64), 0.5
    )
    assert len(keys) == 199
    assert assignment[190] == 70


def test_groups_of_one_are_all_keys(block):
    groups = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    boxes, scores = torch.tensor([[0.0, 0, 2, 2]]).repeat(200, 1), crowd(200, 1, seed=0)[1]
    keys, _ = assert_equals_the_reference(boxes, scores, groups, 0.0)
    assert len(keys) == 200


def test_equal_scores_go_to_the_lower_index_across_blocks(block):
    boxes, groups = torch.tensor([[0.0, 0, 2, 2]]).repeat(200, 1), torch.arange(200) % 2
    keys, assignment = assert_equals_the_reference(boxes, torch.full((200,), 0.5), groups, 0.5)
    assert keys.tolist() == [0, 1]
    assert assignment.tolist() == [0, 1] * 100


def test_boxes_without_an_area_own_themselves(block):
    boxes, scores, groups = (
        torch.full((150, 4), 3.0),
        torch.linspace(1, 0, 150),
        torch.zeros(150, dtype=torch.int64),
    )
    keys, assignment = assert_equals_the_reference(boxes, scores, groups, 0.0)
    assert keys.tolist() == assignment.tolist() == list(range(150))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_thresholds_that_are_an_iou_of_the_scene(dtype):
    """One rounding that differs from the reference's, and the pair falls on the other side."""
    random = torch.Generator().manual_seed(0)
    sides = torch.rand(40, 2, generator=random, dtype=torch.float64).to(dtype) * 50 + 50
    boxes = torch.cat([torch.zeros(40, 2, dtype=dtype), sides], 1)
    scores, groups = torch.linspace(1, 0, 40, dtype=dtype), torch.zeros(40, dtype=torch.int64)
    for row in range(1, 9):
        threshold = float(reference._iou(boxes[0].numpy(), boxes[row].numpy()))
        _, assignment = assert_equals_the_reference(boxes, scores, groups, threshold)
        assert assignment[row] != 0


def test_the_threshold_of_float64_boxes_is_not_rounded_to_float32():
    boxes = torch.tensor([[0, 0, 10, 1], [0, 0, 7, 1]], dtype=torch.float64)
    scores = torch.tensor([0.9, 0.8], dtype=torch.float64)
    keys, _ = assert_equals_the_reference(boxes, scores, torch.zeros(2, dtype=torch.int64), 0.7)
    assert keys.tolist() == [0, 1]
