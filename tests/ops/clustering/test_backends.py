"""One suite over all backends, which is also held against hand-worked tables and torchvision."""

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.ops import cluster_nms
from postnms.ops.clustering import eager
from tests.support.clustering import PATHS, cluster_by, extreme_scenes, grids, random_scene

WIDE, FLAT = (0, 0, 2, 2), (0, 0, 2, 1)
TABLES = {
    "empty": (([], [], [], 0.5), ([], [])),
    "one": (([WIDE], [0.3], [0], 0.5), ([0], [0])),
    "equal scores go to the lower index": (
        ([WIDE] * 3, [0.5] * 3, [0] * 3, 0.5),
        ([0], [0, 0, 0]),
    ),
    # The IoU of the two is 1/2.
    "iou of exactly the threshold does not suppress": (
        ([WIDE, FLAT], [0.9, 0.8], [0, 0], 0.5),
        ([0, 1], [0, 1]),
    ),
    "and just under it does": (([WIDE, FLAT], [0.9, 0.8], [0, 0], 0.49), ([0], [0, 0])),
    "other groups never meet": (([WIDE] * 2, [0.2, 0.9], [0, 1], 0.5), ([1, 0], [1, 0])),
    # The middle box is suppressed by the first, so it does not suppress the third.
    "a suppressed box suppresses nothing": (
        ([(0, 0, 10, 10), (3, 0, 13, 10), (6, 0, 16, 10)], [0.9, 0.8, 0.7], [0] * 3, 0.5),
        ([0, 2], [0, 0, 1]),
    ),
    # IoU with the first key is lower than with the second, but the first comes first.
    "the first key owns, not the nearest": (
        ([(0, 0, 10, 10), (4, 0, 14, 10), (3, 0, 13, 10)], [0.9, 0.8, 0.7], [0] * 3, 0.5),
        ([0, 1], [0, 1, 0]),
    ),
    "keys are ordered by score over all groups": (
        ([(0, 0, 1, 1), (5, 5, 6, 6), (0, 0, 1, 1)], [0.1, 0.9, 0.5], [7, 7, 3], 0.5),
        ([1, 2, 0], [2, 0, 1]),
    ),
    "boxes without an area overlap nothing": (
        ([(1, 1, 1, 1)] * 2, [0.9, 0.8], [0, 0], 0.0),
        ([0, 1], [0, 1]),
    ),
    "touching boxes at threshold 0": (
        ([(0, 0, 1, 1), (1, 0, 2, 1)], [0.9, 0.8], [0, 0], 0.0),
        ([0, 1], [0, 1]),
    ),
    "nothing is over 1": (([WIDE] * 2, [0.9, 0.8], [0, 0], 1.0), ([0, 1], [0, 1])),
    # Each area is 1e40, over the largest float32, and so is the union. The small box fits all.
    "boxes of an infinite area overlap nothing": (
        ([(0, 0, 1e20, 1e20)] * 2 + [(0, 0, 1, 1)] * 2, [0.9, 0.8, 0.7, 0.6], [0] * 4, 0.0),
        ([0, 1, 2], [0, 1, 2, 2]),
    ),
    "infinitely wide and without a height": (
        ([(-3e38, 0, 3e38, 0)] * 2, [0.9, 0.8], [0, 0], 0.0),
        ([0, 1], [0, 1]),
    ),
    # The areas are subnormal in float32: 1e-40.
    "tiny boxes overlap like others": (
        ([(0, 0, 1e-20, 1e-20)] * 2 + [(1, 1, 2, 2)], [0.9, 0.8, 0.7], [0] * 3, 0.5),
        ([0, 2], [0, 0, 1]),
    ),
    "scores may be negative": (([WIDE] * 2, [-3.0, -2.0], [0, 0], 0.5), ([1], [0, 0])),
    "IoU 3/10 is not over 0.3": (
        ([(0, 0, 10, 1), (0, 0, 3, 1)], [0.9, 0.8], [0, 0], 0.3),
        ([0, 1], [0, 1]),
    ),
}
"""Boxes, scores, groups and threshold; and the keys and the assignment that follow."""


@pytest.mark.parametrize("path", ["reference", *PATHS])
@pytest.mark.parametrize("name", TABLES)
def test_hand_worked_tables(name, path):
    (boxes, scores, groups, threshold), expected = TABLES[name]
    found = cluster_by(
        path,
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(groups, dtype=torch.int64),
        threshold,
    )
    assert tuple(part.tolist() for part in found) == expected
    assert all(part.dtype == torch.int64 for part in found)


@pytest.mark.parametrize("path", [path for path in PATHS if path != "triton"])
@settings(max_examples=200, deadline=None)
@given(scene=grids(), threshold=st.sampled_from([0.0, 0.25, 0.3, 1 / 3, 0.5, 0.6, 1.0]))
def test_backends_equal_the_reference_on_a_grid(path, scene, threshold):
    expected = cluster_nms(*scene, threshold, backend="reference")
    found = cluster_by(path, *scene, threshold)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


@pytest.mark.parametrize("path", [path for path in PATHS if path != "triton"])
@settings(max_examples=150, deadline=None)
@given(scene=extreme_scenes(), threshold=st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.8, 0.99]))
def test_backends_equal_the_reference_at_the_limits_of_float32(path, scene, threshold):
    expected = cluster_nms(*scene, threshold, backend="reference")
    found = cluster_by(path, *scene, threshold)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_backends_equal_the_reference_beyond_one_block(path, dtype, monkeypatch):
    monkeypatch.setattr(eager, "BLOCK", 256)
    boxes, scores, groups = random_scene(2 * eager.BLOCK + 300)
    expected = cluster_nms(boxes.to(dtype), scores.to(dtype), groups, 0.4, backend="reference")
    found = cluster_by(path, boxes.to(dtype), scores.to(dtype), groups, 0.4)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("path", PATHS)
def test_coordinates_of_a_thousandth_and_of_ten_millions_in_one_call(path):
    tiny, _, _ = random_scene(100)
    boxes = torch.cat([tiny * 1e-5, tiny.round() + 1e7])
    scores = torch.rand(200, generator=torch.Generator().manual_seed(1))
    groups = torch.zeros(200, dtype=torch.int64)
    expected = cluster_nms(boxes, scores, groups, 0.5, backend="reference")
    assert all(
        torch.equal(*pair)
        for pair in zip(cluster_by(path, boxes, scores, groups, 0.5), expected, strict=True)
    )


@pytest.mark.parametrize("path", ["reference", *PATHS])
@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.7])
def test_keys_equal_torchvision(path, threshold):
    boxes, scores, groups = random_scene(500, levels=10**6)
    keys, _ = cluster_by(path, boxes, scores, None, threshold)
    assert keys.tolist() == torchvision.ops.nms(boxes, scores, threshold).tolist()
    keys, _ = cluster_by(path, boxes, scores, groups, threshold)
    per_group = [
        rows[torchvision.ops.nms(boxes[rows], scores[rows], threshold)]
        for rows in ((groups == group).nonzero().squeeze(1) for group in range(3))
    ]
    assert sorted(keys.tolist()) == torch.cat(per_group).sort().values.tolist()


@pytest.mark.parametrize("path", ["reference", *PATHS])
def test_groups_are_exact_at_huge_coordinates(path):
    """Separating groups by moving boxes apart loses the fraction of a pixel here."""
    boxes = torch.tensor([[1e7, 0, 1e7 + 64, 64], [1e7 + 8, 0, 1e7 + 72, 64]]).repeat(2, 1)
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    keys, assignment = cluster_by(path, boxes, scores, torch.tensor([0, 0, 5, 5]), 0.5)
    assert (keys.tolist(), assignment.tolist()) == ([0, 2], [0, 0, 1, 1])


@pytest.mark.parametrize("path", ["reference", *PATHS])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(path, dtype):
    boxes, scores, groups = random_scene(200)
    half, half_scores = boxes.to(dtype), scores.to(dtype)
    expected = cluster_nms(half.float(), half_scores.float(), groups, 0.5, backend="reference")
    found = cluster_by(path, half, half_scores, groups, 0.5)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("path", ["reference", *PATHS])
def test_inputs_are_left_as_they_were(path):
    boxes, scores, groups = random_scene(100)
    before = boxes.clone(), scores.clone(), groups.clone()
    cluster_by(path, boxes, scores, groups)
    assert all(torch.equal(*pair) for pair in zip((boxes, scores, groups), before, strict=True))


@pytest.mark.parametrize("path", ["reference", *PATHS])
def test_views_that_require_a_gradient(path):
    boxes, scores, _ = random_scene(60)
    table = torch.cat([boxes, scores[:, None]], 1).requires_grad_()
    keys, assignment = cluster_by(path, table[:, :4], table[:, 4])
    expected = cluster_nms(boxes, scores, backend="reference")
    assert torch.equal(keys, expected[0])
    assert torch.equal(assignment, expected[1])
