"""NMS read as clustering: clusters, their representative boxes, and the detections of keys."""

import dataclasses

import pytest
import torch

from postnms.clustering import cluster, keep_keys, nms_again, reduce_members, representative_boxes
from postnms.suppression.greedy import GreedyNMS
from tests.support import builders, stages
from tests.support.builders import make

# The second and third overlap the first by 9/11, not so the last.
FOUR = make([(0, 0, 10, 10), (1, 0, 11, 10), (0, 1, 10, 11), (40, 0, 44, 8)], [0.9, 0.6, 0.3, 0.8])


def test_a_cluster_is_what_its_key_suppressed():
    clusters = cluster(FOUR)
    assert clusters.keys.tolist() == [0, 3]
    assert clusters.assignment.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("by_hand", [builders.CLUSTERS, stages.CLUSTERS])
def test_the_clusters_that_other_tests_are_given_are_right(by_hand):
    clusters = cluster(by_hand.candidates)
    assert torch.equal(clusters.keys, by_hand.keys)
    assert torch.equal(clusters.assignment, by_hand.assignment)


def test_clusters_never_cross_images_or_classes():
    same_box = [(0, 0, 10, 10)] * 4
    clusters = cluster(make(same_box, [0.9, 0.8, 0.7, 0.6], [0, 1, 0, 0], [0, 0, 1, 0], 2))
    assert clusters.keys.tolist() == [0, 1, 2]
    assert clusters.assignment.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("union", (0, 0, 11, 11)),
        ("intersection", (1, 1, 10, 10)),
        ("mean", (1 / 3, 1 / 3, 31 / 3, 31 / 3)),
        # Weights 1/2, 1/3, 1/6.
        ("vote", (1 / 3, 1 / 6, 10 + 1 / 3, 10 + 1 / 6)),
    ],
)
def test_representative_boxes_by_hand(method, expected):
    boxes = representative_boxes(cluster(FOUR), method)
    torch.testing.assert_close(boxes[0], torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(boxes[1], FOUR.boxes[3])


def test_members_that_share_nothing_are_represented_by_the_key():
    apart = make([(0, 0, 10, 10), (0, 0, 5.6, 10), (4.4, 0, 10, 10)], [0.9, 0.8, 0.7])
    clusters = cluster(apart, 0.4)
    assert clusters.keys.tolist() == [0]
    shared = representative_boxes(clusters, "intersection")
    torch.testing.assert_close(shared, torch.tensor([[4.4, 0, 5.6, 10]]))
    sliver = cluster(
        make([(0, 0, 10, 10), (0, 0, 5.2, 10), (5.1, 0, 10, 10)], [0.9, 0.8, 0.7]), 0.4
    )
    assert representative_boxes(sliver, "intersection").tolist() == [[0, 0, 10, 10]]
    wider = cluster(make([(0, 0, 10, 10), (0, 0, 4.9, 10), (5.1, 0, 10, 10)], [0.9, 0.8, 0.7]), 0.4)
    assert representative_boxes(wider, "intersection").tolist() == [[0, 0, 10, 10]]


def test_a_vote_without_any_score_is_the_mean():
    silent = make([(0, 0, 10, 10), (1, 0, 11, 10)], [0.0, 0.0])
    torch.testing.assert_close(
        representative_boxes(cluster(silent), "vote"), torch.tensor([[0.5, 0, 10.5, 10]])
    )
    with pytest.raises(ValueError, match="scores: expected values >= 0"):
        representative_boxes(cluster(make([(0, 0, 1, 1)], [-1.0])), "vote")


@pytest.mark.parametrize("method", ["Union", "", None, 3])
def test_an_unknown_method_is_named(method):
    with pytest.raises(ValueError, match=f"^method: expected one of union, .*, got {method!r}$"):
        representative_boxes(cluster(FOUR), method)


@pytest.mark.parametrize("method", ["union", "intersection", "mean", "vote"])
def test_no_candidate_gives_no_cluster(method):
    clusters = cluster(make([], []))
    assert representative_boxes(clusters, method).shape == (0, 4)
    assert keep_keys(clusters, 5)[0].boxes.shape == (0, 4)


def test_reduce_members_over_extra_dimensions():
    values = torch.tensor([[1.0, 9], [2, 8], [3, 7], [4, 6]])
    assert reduce_members(values, cluster(FOUR), "amax").tolist() == [[3, 9], [4, 6]]
    assert reduce_members(values, cluster(FOUR), "amin").tolist() == [[1, 7], [4, 6]]
    assert reduce_members(values[:, 0], cluster(FOUR), "sum").tolist() == [6, 4]


def test_greedy_nms_keeps_the_best_keys_of_each_image():
    rows = make(
        [(0, 0, 4, 4), (9, 9, 14, 14), (20, 0, 24, 4), (0, 0, 4, 4)],
        [0.2, 0.9, 0.5, 0.3],
        None,
        [0, 0, 0, 1],
        2,
    )
    found = GreedyNMS(max_detections=2)(rows)
    assert found.source.tolist() == [1, 2, 3]
    assert found.image.tolist() == [0, 0, 1]


def test_nms_again_suppresses_what_has_moved_together():
    found = GreedyNMS()(make([(0, 0, 4, 4), (9, 9, 14, 14)], [0.2, 0.9]))
    assert nms_again(found, 0.5).source.tolist() == [1, 0]
    together = type(found)(
        found.boxes[:1].repeat(2, 1), found.scores, found.labels, found.image, found.source, 1
    )
    assert nms_again(together, 0.5).source.tolist() == [1]


def test_kept_keys_carry_the_extra_columns_of_their_candidates():
    edges = torch.arange(16.0).view(4, 4)
    rows = dataclasses.replace(FOUR, extra={"iou": torch.arange(4.0), "edges": edges})
    found, chosen = keep_keys(cluster(rows), 5)
    assert (found.source.tolist(), chosen.tolist()) == ([0, 3], [0, 1])
    again = nms_again(found, 0.5)
    for kept in (found, again):
        assert kept.extra["iou"].tolist() == [0, 3]
        assert torch.equal(kept.extra["edges"], edges[[0, 3]])
