"""Weights of the training rows, the losses of the stage and their weight, worked by hand."""

import torch

from postnms.clustering import cluster
from postnms.stage.losses import beta, classification_loss, importance, location_loss
from postnms.stage.matching import match_clusters, match_members
from tests.support.builders import CLUSTERS, make, truths


def matched(clusters, targets):
    """The matches of members that have the labels of their clusters."""
    return match_members(clusters, targets, match_clusters(clusters, targets))


def test_importance_by_hand():
    matches = matched(CLUSTERS, truths([(4, 0, 14, 10)]))
    w_cls, w_loc = importance(CLUSTERS, matches, "all")
    torch.testing.assert_close(w_cls, torch.tensor([(60 / 140) / (80 / 120), 1.0, 1.0]))
    torch.testing.assert_close(w_loc, torch.tensor([1.0, 0.5, 1.0]))


def test_each_weighting_switches_its_part():
    matches = matched(CLUSTERS, truths([(4, 0, 14, 10)]))
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
    w_cls, _ = importance(CLUSTERS, matched(CLUSTERS, truths([(9, 0, 30, 10)])))
    assert w_cls.tolist() == [1, 1, 1]


def test_scores_that_are_all_zero_weigh_one():
    clusters = cluster(make([(0, 0, 10, 10), (1, 0, 11, 10)], [0.0, 0.0]))
    _, w_loc = importance(clusters, matched(clusters, truths([(0, 0, 10, 10)])))
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
