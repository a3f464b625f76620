"""Candidates of a dense head are scored as at test time, also in training."""

import torch

from postnms.detectors.image_batch import to_network
from tests.support.detectors import TARGETS, TWO, build, freeze_statistics


def test_a_head_with_batch_norm_scores_candidates_as_at_test_time():
    """SSDlite's losses have the statistics of the batch, its candidates the learned ones."""
    network = build("ssdlite").network
    freeze_statistics(network)
    batch = network.prepare(TWO)
    features = network.features(batch)
    tested, _ = network.candidates(features, batch)
    network.head.train()
    trained, losses = network.candidates(features, batch, to_network(TARGETS, batch, 3))
    assert torch.equal(trained.scores, tested.scores)
    assert network.head.training
    network.head.eval()
    again = network.candidates(features, batch, to_network(TARGETS, batch, 3))[1]
    assert losses["loss_classification"] != again["loss_classification"]
