"""Clusters against ground truth: which are positive, and which object each stands for."""

import torch

from postnms.clustering import cluster
from postnms.stage.matching import match_clusters
from tests.support.builders import CLUSTERS, make, truths


def test_one_good_member_makes_the_whole_cluster_positive():
    # The key overlaps the truth by 60/140, the member by 80/120.
    matches = match_clusters(CLUSTERS, truths([(4, 0, 14, 10)]))
    assert matches.positive.tolist() == [True, False]
    assert matches.truth.tolist() == [0, -1]
    torch.testing.assert_close(matches.iou, torch.tensor([60 / 140, 80 / 120, 0.0]))


def test_iou_of_exactly_the_threshold_is_negative():
    matches = match_clusters(cluster(make([(0, 0, 10, 10)], [0.9])), truths([(0, 0, 10, 5)]))
    assert matches.positive.tolist() == [False]
    assert matches.truth.tolist() == [0]


def test_of_two_equal_truths_the_lower_row_is_taken():
    matches = match_clusters(CLUSTERS, truths([(90, 90, 95, 95), (0, 0, 10, 10), (0, 0, 10, 10)]))
    assert matches.truth.tolist() == [1, -1]


def test_the_best_member_decides_the_truth_not_the_key():
    # The key's best truth is 0 (IoU 0.6), the member's is 1 (IoU 1).
    matches = match_clusters(CLUSTERS, truths([(0, 0, 6, 10), (2, 0, 12, 10)]))
    assert matches.truth[0] == 1
    torch.testing.assert_close(matches.iou[:2], torch.tensor([2 / 3, 1.0]))


def test_truths_of_another_class_or_image_do_not_count():
    assert not match_clusters(CLUSTERS, truths([(0, 0, 10, 10)], labels=[1])).positive.any()
    two_images = cluster(make([(0, 0, 10, 10)], [0.9], image=[1], num_images=2))
    assert not match_clusters(two_images, truths([(0, 0, 10, 10)], num_images=2)).positive.any()


def test_negative_clusters_on_crowd_regions_are_ignored():
    crowd = truths([(45, 45, 80, 80), (0, 0, 10, 10)], crowd=[True, False])
    matches = match_clusters(CLUSTERS, crowd)
    assert matches.positive.tolist() == [True, False]
    assert matches.ignored.tolist() == [False, True]
    half_covered = match_clusters(CLUSTERS, truths([(55, 50, 80, 80)], crowd=[True]))
    assert half_covered.ignored.tolist() == [False, False]


def test_nothing_to_match():
    matches = match_clusters(CLUSTERS, truths([]))
    assert not matches.positive.any()
    assert matches.truth.tolist() == [-1, -1]
    assert match_clusters(cluster(make([], [])), truths([(0, 0, 1, 1)])).positive.shape == (0,)
