"""The grid gives what the scan and the reference give, or leaves a group to the scan."""

import pytest
import torch

from postnms.ops import cluster_nms
from postnms.ops.clustering.cpu.grid import fits_the_grid
from tests.support.clustering import cluster_by, near_copies, random_scene


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("threshold", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_the_grid_finds_every_pair_of_any_shape(threshold, spread, dtype):
    for seed in range(4):
        scene = near_copies(seed, 250, spread, dtype)
        expected = cluster_nms(*scene, threshold, backend="reference")
        found = cluster_by("cpu grid", *scene, threshold)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("spread", [0.2, 2.0])
@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8])
def test_the_two_ways_of_the_cpu_agree_on_many_boxes(threshold, spread):
    scene = near_copies(0, 12000, spread, torch.float32)
    found, expected = (
        cluster_by("cpu grid", *scene, threshold),
        cluster_by("cpu scan", *scene, threshold),
    )
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("path", ["cpu", "cpu grid"])
@pytest.mark.parametrize("scale", [1e-140, 1e-25, 1e25, 1e140])
def test_boxes_that_the_grid_cannot_place_are_scanned(path, scale):
    """Sides outside float32's range, or far too short for their distance from the origin."""
    boxes, scores, groups = random_scene(1100, groups=1)
    boxes = boxes.double() * scale
    boxes[:100] = boxes[:100] * 1e-9 + 1e3 * scale
    expected = cluster_nms(boxes, scores, groups, 0.5, backend="reference")
    assert all(
        torch.equal(*pair)
        for pair in zip(cluster_by(path, boxes, scores, groups, 0.5), expected, strict=True)
    )


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.8, 0.99])
@pytest.mark.parametrize("side", [1e-19, 3e-20, 1e-21, 1e-22, 3e-23])
def test_areas_that_are_subnormal_are_scanned(side, threshold):
    """Their rounding moves an IoU across any threshold, of pairs that do not come near it."""
    for seed in range(4):
        boxes, scores, groups = near_copies(seed, 120, 0.2, torch.float64)
        boxes = (boxes * side / 40).float()
        expected = cluster_nms(boxes, scores, groups, threshold, backend="reference")
        found = cluster_by("cpu grid", boxes, scores, groups, threshold)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("box", "dtype", "suited"),
    [
        # These are narrow, and far away along the other axis only.
        ([0, 1e7, 1e-3, 1e7 + 5], torch.float32, True),
        ([1e7, 0, 1e7 + 1, 1e-3], torch.float32, True),
        ([0, 1e7, 1e-3, 1e7 + 1e-3], torch.float64, False),
        ([1e7, 0, 1e7 + 1e-3, 5], torch.float64, False),
        # This one has no area: it overlaps nothing, wherever it is placed.
        ([1e7, 0, 1e7, 5], torch.float64, True),
        # An area of 1e-34, of 1e-36, and of 1e-40, which is subnormal in float32.
        ([0, 0, 1e-17, 1e-17], torch.float32, True),
        ([0, 0, 1e-18, 1e-18], torch.float32, False),
        ([0, 0, 1e-20, 1e-20], torch.float32, False),
        ([0, 0, 1e-10, 1e-30], torch.float64, False),
        # This area is 0, because 1e-50 is.
        ([0, 0, 1e-25, 1e-25], torch.float32, True),
    ],
)
def test_which_boxes_the_grid_can_place(box, dtype, suited):
    corners = torch.tensor([box], dtype=dtype).T.contiguous().numpy()
    columns = (*corners, (corners[2] - corners[0]) * (corners[3] - corners[1]))
    assert fits_the_grid(columns, columns[0].dtype.type(0.5)) == suited
