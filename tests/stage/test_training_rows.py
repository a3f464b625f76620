"""The rows that the stage is trained on, for each of its switches."""

import pytest
import torch

from postnms.clustering import cluster
from postnms.stage import StageConfig
from postnms.stage.training_rows import training_rows
from tests.support.builders import clusters_by_hand, make, truths
from tests.support.stages import CLUSTERS, TARGETS

PAIR = [(0, 0, 20, 20), (2, 0, 22, 20)]
UNION = (0, 0, 22, 20)
ALONE = [(5, 30, 25, 50), (0, 0, 20, 20), (40, 40, 60, 60)]


def test_training_rows_are_members_then_representatives_with_positive_rows_first():
    rows = training_rows(CLUSTERS, TARGETS, StageConfig())
    # Only the first cluster has two members, so only its representative box differs from its key.
    positive = [PAIR[0], PAIR[1], ALONE[0], UNION]
    assert rows.boxes.tolist() == [list(box) for box in [*positive, ALONE[2], ALONE[1]]]
    assert rows.positive.tolist() == [True] * 4 + [False] * 2
    assert rows.labels.tolist() == [0, 0, 1, 0, 0, 1]
    assert rows.image.tolist() == [0, 0, 1, 0, 0, 0]
    one, other = [1, 0, 21, 20], [5, 30, 25, 52]
    assert rows.truths.tolist() == [one, one, other, one]


def test_a_joined_row_has_the_weights_of_both():
    rows = training_rows(CLUSTERS, TARGETS, StageConfig())
    assert rows.count == 5 + 4
    # IoU with the truth: 19 / 21 for both members of the pair, scores 0.9 and 0.6.
    torch.testing.assert_close(rows.w_cls, torch.tensor([1.0, 1.0, 2.0, 1.0, 2.0, 2.0]))
    torch.testing.assert_close(rows.w_loc, torch.tensor([1.0, 0.6 / 0.9, 2.0, 1.0]))


def test_the_representative_of_several_members_joins_if_it_is_the_key():
    nested = cluster(make([(0, 0, 20, 20), (1, 1, 19, 19)], [0.9, 0.8]))
    rows = training_rows(nested, truths([(0, 0, 20, 20)]), StageConfig())
    assert rows.boxes.tolist() == [[0, 0, 20, 20], [1, 1, 19, 19]]
    assert rows.count == 3
    torch.testing.assert_close(rows.w_cls, torch.tensor([2.0, 0.81]))
    torch.testing.assert_close(rows.w_loc, torch.tensor([2.0, 0.8 / 0.9]))


@pytest.mark.parametrize(
    ("settings", "boxes", "count"),
    [({}, [*PAIR, ALONE[0], UNION, ALONE[2], ALONE[1]], 9),
     ({"members": False}, [PAIR[0], ALONE[0], UNION, ALONE[1], ALONE[2]], 8),
     ({"representative_rows": False}, [*PAIR, ALONE[0], ALONE[2], ALONE[1]], 5),
     ({"members": False, "representative_rows": False}, [PAIR[0], ALONE[0], *ALONE[1:]], 4)],
)  # fmt: skip
def test_switches_choose_the_rows(settings, boxes, count):
    rows = training_rows(CLUSTERS, TARGETS, StageConfig(**settings))
    assert rows.boxes.tolist() == [list(box) for box in boxes]
    assert rows.count == count


def test_clusters_on_crowd_regions_give_no_rows():
    crowd = truths([(1, 0, 21, 20), (38, 38, 62, 62)], [0, 0], [0, 0], [False, True], 2)
    rows = training_rows(CLUSTERS, crowd, StageConfig())
    assert rows.count == 9 - 2
    assert [40, 40, 60, 60] not in rows.boxes.tolist()


def test_without_clusters_each_candidate_has_its_own_label_truth_and_full_weight():
    # The fourth box is a member of the cluster of the first, but it overlaps the second object.
    boxes = [(0, 0, 20, 20), (40, 40, 60, 60), (2, 0, 22, 20), (6, 0, 26, 20), (0, 0, 10, 8)]
    clusters = cluster(make(boxes, [0.9, 0.8, 0.7, 0.6, 0.5]))
    assert clusters.assignment.tolist() == [0, 1, 0, 0, 2]
    objects = truths([(0, 0, 20, 20), (9, 0, 29, 20)], [0, 0], [0, 0], num_images=1)
    rows = training_rows(clusters, objects, StageConfig(clusters=False))
    assert rows.boxes.tolist() == [list(boxes[i]) for i in (0, 2, 3, 1, 4)]
    assert rows.truths.tolist() == [[0, 0, 20, 20], [0, 0, 20, 20], [9, 0, 29, 20]]
    assert rows.positive.tolist() == [True] * 3 + [False] * 2
    assert rows.w_cls.tolist() == [1] * 5
    assert rows.w_loc.tolist() == [1] * 3
    assert rows.count == 5
    same = StageConfig(clusters=False, member_labels="own", representative_rows=False)
    for name, column in vars(training_rows(clusters, objects, same)).items():
        assert torch.equal(torch.as_tensor(column), torch.as_tensor(getattr(rows, name))), name


CROWD = [(0, 0, 20, 20), (2, 0, 22, 20), (9, 0, 29, 20), (0, 0, 20, 8)]
"""A key, and three members: of its object, of the one beside it, and of none."""
CROWDED = clusters_by_hand(make(CROWD, [0.8, 0.6, 0.4, 0.2]), [0], [0, 0, 0, 0])
BESIDE = truths([(0, 0, 20, 20), (10, 0, 30, 20)], [0, 0], [0, 0], num_images=1)


def test_members_with_labels_of_their_own_learn_the_object_that_they_overlap():
    assert CROWDED.assignment.tolist() == [0] * 4
    config = StageConfig(member_labels="own", representative_rows=False)
    rows = training_rows(CROWDED, BESIDE, config)
    assert rows.boxes.tolist() == [list(box) for box in CROWD]
    assert rows.positive.tolist() == [True] * 3 + [False]
    assert rows.truths.tolist() == [[0, 0, 20, 20], [0, 0, 20, 20], [10, 0, 30, 20]]
    # Their weights stay shares of the best one of their cluster; a negative row has w_cls = 1.
    torch.testing.assert_close(rows.w_cls, torch.tensor([1.0, 18 / 22, 19 / 21, 1.0]))
    torch.testing.assert_close(rows.w_loc, torch.tensor([1.0, 0.75, 0.5]))


def test_the_threshold_of_clusters_is_that_of_members_too():
    config = StageConfig(member_labels="own", representative_rows=False, positive_iou=0.39)
    assert training_rows(CROWDED, BESIDE, config).positive.tolist() == [True] * 4


def test_a_representative_box_learns_the_object_of_its_cluster():
    rows = training_rows(CROWDED, BESIDE, StageConfig(member_labels="own"))
    assert rows.boxes.tolist() == [list(box) for box in [*CROWD[:3], (0, 0, 29, 20), CROWD[3]]]
    assert rows.truths.tolist()[2:] == [[10, 0, 30, 20], [0, 0, 20, 20]]
    assert rows.w_cls[3] == rows.w_loc[3] == 1


def test_a_representative_box_joins_its_key_only_if_both_learn_the_same():
    # The representative box is the key, which overlaps the object by 0.45, its member by 0.9.
    nested = cluster(make([(0, 0, 20, 20), (0, 0, 20, 10)], [0.9, 0.8]), 0.3)
    small = truths([(0, 0, 20, 9)])
    joined = training_rows(nested, small, StageConfig())
    assert (joined.positive.tolist(), joined.count) == ([True] * 2, 3)
    rows = training_rows(nested, small, StageConfig(member_labels="own"))
    assert rows.boxes.tolist() == [[0, 0, 20, 10], [0, 0, 20, 20], [0, 0, 20, 20]]
    assert (rows.positive.tolist(), rows.count) == ([True, True, False], 3)
    assert rows.w_cls.tolist() == [1, 1, 1]
    # Both are positive, but the key learns the higher object and its member the lower one.
    two = truths([(0, 0, 20, 12), (0, 0, 20, 10)], [0, 0], [0, 0], num_images=1)
    rows = training_rows(nested, two, StageConfig(member_labels="own"))
    assert rows.truths[:, 3].tolist() == [12, 10, 10]


def test_members_on_a_crowd_region_give_no_rows_of_their_own():
    region = truths([(0, 0, 20, 20), (0, 0, 20, 8)], [0, 0], [0, 0], [False, True], 1)
    config = StageConfig(member_labels="own", representative_rows=False)
    assert [0, 0, 20, 8] not in training_rows(CROWDED, region, config).boxes.tolist()
    assert [0, 0, 20, 8] in training_rows(CROWDED, region, StageConfig()).boxes.tolist()
