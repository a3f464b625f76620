"""IoUs of clusters by hand and against plain loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.analysis.placement import cluster_ious, concatenate_cluster_ious, histogram
from postnms.boxes import pairwise_iou
from postnms.clustering import cluster
from postnms.structures import of_image
from tests.support.builders import CLUSTERS, make, scenes, truths


def test_key_best_and_mean_by_hand():
    # The key overlaps the truth by 60/140, the member by 80/120; the other cluster has no truth.
    found = cluster_ious(CLUSTERS, truths([(4, 0, 14, 10)]))
    torch.testing.assert_close(found.key, torch.tensor([60 / 140]))
    torch.testing.assert_close(found.best, torch.tensor([80 / 120]))
    torch.testing.assert_close(found.mean, torch.tensor([(60 / 140 + 80 / 120) / 2]))


def test_a_cluster_that_lies_badly_is_one_of_them():
    # The key and the member overlap the truth by 20/180 and 40/160, which is not enough to be
    # positive. The third candidate touches its truth with an edge alone.
    found = cluster_ious(CLUSTERS, truths([(8, 0, 18, 10), (10, 20, 20, 30)]))
    torch.testing.assert_close(found.key, torch.tensor([20 / 180]))
    torch.testing.assert_close(found.best, torch.tensor([40 / 160]))
    assert histogram(found.key).tolist().index(1) == 2


def test_all_members_are_held_against_the_truth_of_their_cluster():
    # The key's best truth is the first (IoU 0.6); the cluster's is the second, that its member has.
    found = cluster_ious(CLUSTERS, truths([(0, 0, 6, 10), (2, 0, 12, 10)]))
    torch.testing.assert_close(found.key, torch.tensor([2 / 3]))
    assert found.best.tolist() == [1]


def test_moved_boxes_change_the_ious_alone():
    # After the move the key covers the truth, and the member covers nothing. The third candidate
    # still has no truth.
    moved = torch.tensor([(4.0, 0, 14, 10), (40, 40, 50, 50), (4, 0, 14, 10)])
    found = cluster_ious(CLUSTERS, truths([(4, 0, 14, 10)]), moved)
    assert [column.tolist() for column in (found.key, found.best, found.mean)] == [[1], [1], [0.5]]
    with pytest.raises(ValueError, match=r"boxes: expected \(3, 4\), got \(2, 4\)"):
        cluster_ious(CLUSTERS, truths([(4, 0, 14, 10)]), moved[:2])


@pytest.mark.parametrize("moved", [False, True])
def test_no_candidates_and_no_truths(moved):
    for clusters, targets in (
        (CLUSTERS, truths([])),
        (cluster(make([], [])), truths([(0, 0, 1, 1)])),
        (cluster(make([], [])), truths([])),
    ):
        found = cluster_ious(clusters, targets, clusters.candidates.boxes if moved else None)
        assert found.key.shape == found.best.shape == found.mean.shape == (0,)


@given(scenes(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_equal_to_plain_loops(case, mirrored):
    clusters, targets = case
    candidates = clusters.candidates
    boxes = candidates.boxes.flip(0) if mirrored else candidates.boxes
    before, after = (pairwise_iou(corners, targets.boxes) for corners in (candidates.boxes, boxes))
    expected = []
    for position, key in enumerate(clusters.keys.tolist()):
        members = (clusters.assignment == position).nonzero().squeeze(1).tolist()
        best, chosen = 0.0, -1
        for row in range(len(targets.labels)):
            same = (
                targets.image[row] == candidates.image[key]
                and targets.labels[row] == candidates.labels[key]
            )
            if (
                same
                and not targets.crowd[row]
                and max(before[member, row] for member in members) > best
            ):
                best, chosen = float(max(before[member, row] for member in members)), row
        if best > 0:
            values = [float(after[member, chosen]) for member in members]
            expected.append((float(after[key, chosen]), max(values), sum(values) / len(values)))
    found = cluster_ious(clusters, targets, boxes if mirrored else None)
    columns = torch.tensor(expected).view(-1, 3)
    for values, column in zip((found.key, found.best, found.mean), columns.unbind(1), strict=True):
        torch.testing.assert_close(values, column)


@given(scenes())
@settings(max_examples=50, deadline=None)
def test_chunks_of_images_add_up(case):
    clusters, targets = case
    parts = [
        cluster_ious(cluster(of_image(clusters.candidates, i), 0.4), of_image(targets, i))
        for i in range(3)
    ]
    whole, joined = cluster_ious(clusters, targets), concatenate_cluster_ious(parts)
    for name in ("key", "best", "mean"):
        torch.testing.assert_close(
            getattr(joined, name).sort().values, getattr(whole, name).sort().values
        )
    assert joined.mean.tolist() == [value for part in parts for value in part.mean.tolist()]


def test_parts_are_joined_in_their_order():
    first = cluster_ious(CLUSTERS, truths([(4, 0, 14, 10)]))
    second = cluster_ious(CLUSTERS, truths([(50, 50, 60, 60), (0, 0, 10, 10)]))
    joined = concatenate_cluster_ious([first, second])
    torch.testing.assert_close(joined.key, torch.tensor([60 / 140, 1.0, 1.0]))
    torch.testing.assert_close(joined.best, torch.tensor([80 / 120, 1.0, 1.0]))
    torch.testing.assert_close(joined.mean, torch.tensor([23 / 42, (1 + 80 / 120) / 2, 1.0]))
    assert concatenate_cluster_ious([]).key.shape == (0,)


def test_bins_have_their_lower_bound_and_the_last_both():
    edges = torch.arange(21) / 20
    assert histogram(edges).tolist() == [1] * 19 + [2]
    found = histogram(torch.tensor([0.0, 0.049, 0.05, 0.52, 0.549, 0.999, 1.0]))
    assert found.dtype == torch.int64
    assert found.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert histogram(torch.zeros(0)).tolist() == [0] * 20


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_a_value_that_is_no_iou(value):
    with pytest.raises(ValueError, match="values: expected 0 to 1, got"):
        histogram(torch.tensor([0.5, value]))
