import torch

from postnms.clustering import cluster
from postnms.stage.losses import beta, classification_loss, importance, location_loss
from postnms.stage.matching import match_clusters
from postnms.structures import Targets
from tests.test_clustering import make


def truths(boxes, labels=None, image=None, crowd=None, num_images=1):
    count = len(boxes)
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(labels or [0] * count, dtype=torch.int64),
        torch.tensor(image or [0] * count, dtype=torch.int64),
        torch.tensor(crowd or [False] * count, dtype=torch.bool),
        num_images,
    )


# Cluster 0: key 0 and member 1; cluster 1: key 2.
CLUSTERS = cluster(make([(0, 0, 10, 10), (2, 0, 12, 10), (50, 50, 60, 60)], [0.8, 0.4, 0.6]))


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


def test_importance_by_hand():
    matches = match_clusters(CLUSTERS, truths([(4, 0, 14, 10)]))
    w_cls, w_loc = importance(CLUSTERS, matches, "all")
    torch.testing.assert_close(w_cls, torch.tensor([(60 / 140) / (80 / 120), 1.0, 1.0]))
    torch.testing.assert_close(w_loc, torch.tensor([1.0, 0.5, 1.0]))


def test_each_weighting_switches_its_part():
    matches = match_clusters(CLUSTERS, truths([(4, 0, 14, 10)]))
    both = importance(CLUSTERS, matches, "all")
    for weighting, used in (
        ("cls", (True, False)),
        ("loc", (False, True)),
        ("none", (False, False)),
    ):
        for found, full, on in zip(
            importance(CLUSTERS, matches, weighting), both, used, strict=True
        ):
            assert torch.equal(found, full if on else torch.ones(3))


def test_members_of_a_negative_cluster_weigh_one():
    w_cls, _ = importance(CLUSTERS, match_clusters(CLUSTERS, truths([(9, 0, 30, 10)])))
    assert w_cls.tolist() == [1, 1, 1]


def test_scores_that_are_all_zero_weigh_one():
    clusters = cluster(make([(0, 0, 10, 10), (1, 0, 11, 10)], [0.0, 0.0]))
    _, w_loc = importance(clusters, match_clusters(clusters, truths([(0, 0, 10, 10)])))
    assert w_loc.tolist() == [1, 1]


def test_beta_is_keys_over_candidates():
    assert beta(2, 3) == 2 / 3
    assert beta(0, 0) == 0.0


def test_losses_by_hand():
    logits = torch.tensor([0.0, 2.0, -1.0])
    found = classification_loss(
        logits, torch.tensor([True, False, False]), torch.tensor([1.0, 0.5, 0.0])
    )
    torch.testing.assert_close(found, torch.tensor(0.6931472 + 0.5 * 2.126928))
    deltas, wanted = torch.tensor([[0.5, 0.0, 0.0, 3.0]] * 2), torch.zeros(2, 4)
    found = location_loss(deltas, wanted, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(found, torch.tensor(0.125 + 2.5))
    found = location_loss(deltas, wanted, torch.tensor([1.0, 0.0]), smooth_l1_beta=0.25)
    torch.testing.assert_close(found, torch.tensor(0.375 + 2.875))


def test_losses_of_no_row_are_differentiable_zeros():
    logits, deltas = torch.zeros(0, requires_grad=True), torch.zeros(0, 4, requires_grad=True)
    none = torch.zeros(0)
    total = classification_loss(logits, none.bool(), none) + location_loss(
        deltas, torch.zeros(0, 4), none
    )
    total.backward()
    assert total == 0
