"""The rivals that come closest to the stage, worked by hand from the code of their authors."""

from math import exp

import pytest
import torch

from postnms.suppression import SUPPRESSORS, get_suppressor
from tests.support.builders import candidates_of
from tests.support.suppression import BACKENDS, suppress_by

ON_ALL = pytest.mark.parametrize("backend", BACKENDS)


def row(*spans):
    """Boxes of height 10 from left to right edge."""
    return [[left, 0, right, 10] for left, right in spans]


def assert_found(found, spans, scores):
    torch.testing.assert_close(found.boxes, torch.tensor(row(*spans), dtype=torch.float32))
    torch.testing.assert_close(found.scores, torch.tensor(scores, dtype=torch.float32))


def apart(first, second, beta):
    """The relative distance of the centres of two boxes of a row to the power of beta."""
    width = max(first[1], second[1]) - min(first[0], second[0])
    return ((sum(first) - sum(second)) ** 2 / 4 / (width**2 + 100)) ** beta


A, B, C, D = (0, 10), (2.5, 12.5), (7.5, 17.5), (0, 9)
IOU_AB, IOU_AC, IOU_BC = 7.5 / 12.5, 2.5 / 17.5, 5 / 15


@ON_ALL
def test_cluster_nms_by_distance_has_the_exponent_of_its_source(backend):
    """IoU - D is 0.565 with a power of 0.9, and 0.492 with a power of 0.6."""
    pair = candidates_of(row(A, B), [0.9, 0.8])
    assert suppress_by(backend, SUPPRESSORS["cluster_nms_distance"], pair).source.tolist() == [0]
    spared = suppress_by(backend, get_suppressor("cluster_nms_distance:beta=0.6"), pair)
    assert spared.source.tolist() == [0, 1]


@ON_ALL
def test_cluster_nms_with_all_has_keys_by_plain_iou_and_the_distance_in_the_factor(backend):
    """A suppresses B by plain IoU, so B does not lower the score of C."""
    found = suppress_by(
        backend, SUPPRESSORS["cluster_nms_all"], candidates_of(row(A, B, C), [0.9, 0.8, 0.7])
    )
    second = 0.8 * min(exp(-(IOU_AB**2) / 0.2) + apart(A, B, 0.6), 1)
    third = 0.7 * min(exp(-(IOU_AC**2) / 0.2) + apart(A, C, 0.6), 1)
    assert_found(found, [A, C, B], [0.9, third, second])


@ON_ALL
def test_cluster_nms_with_all_moves_keys_by_lowered_scores_and_iou(backend):
    found = suppress_by(
        backend, SUPPRESSORS["cluster_nms_all"], candidates_of(row(A, D), [0.8, 0.5])
    )
    lowered = 0.5 * (exp(-0.81 / 0.2) + apart(A, D, 0.6))
    right = (10 * 0.8 + 9 * 0.9 * lowered) / (0.8 + 0.9 * lowered)
    assert_found(found, [(0, right), D], [0.8, lowered])


@ON_ALL
def test_cluster_nms_of_one_class_at_a_time_moves_every_survivor_by_iou_alone(backend):
    rule = get_suppressor("cluster_nms_all:moved=survivors:beta=0.1")
    found = suppress_by(backend, rule, candidates_of(row(A, D, (0, 8.2)), [0.8, 0.5, 0.4]))
    factors = [exp(-0.81 / 0.2) + apart(A, D, 0.1), exp(-(0.82**2) / 0.2) + apart(A, (0, 8.2), 0.1)]
    right = (10 + 0.9 * 9 + 0.82 * 8.2) / (1 + 0.9 + 0.82)
    inner = 8.2 / 9
    assert_found(
        found,
        [(0, right), (0, (9 + inner * 8.2) / (1 + inner)), (0, 8.2)],
        [0.8, 0.5 * factors[0], 0.4 * factors[1]],
    )


@ON_ALL
def test_cluster_nms_by_distance_weighs_by_its_own_overlap(backend):
    rule = get_suppressor("cluster_nms_weighted:distance=true:vote_threshold=0.89")
    found = suppress_by(backend, rule, candidates_of(row(A, D, (0, 8.9)), [0.8, 0.5, 0.4]))
    weight = 0.5 * (0.9 - apart(A, D, 0.9))
    assert 0.89 < weight / 0.5 < 0.9
    assert_found(found, [(0, (8 + 9 * weight) / (0.8 + weight))], [0.8])


@ON_ALL
def test_non_max_merge_asks_the_box_merged_so_far_and_goes_on(backend):
    """The third box overlaps the key by 0.43, but what the key has become by 0.33 only."""
    spans = row(A, (4, 14), (-4, 6), (-1, 9))
    found = suppress_by(
        backend, get_suppressor("non_max_merge:iou=0.4"), candidates_of(spans, [0.9, 0.8, 0.7, 0.6])
    )
    assert_found(found, [(-1, 14)], [0.9])


@ON_ALL
def test_non_max_merge_over_the_smaller_box_asks_the_box_merged_so_far_too(backend):
    """The third box has half of the small key, but a ninth of what the key has become."""
    spans = row((0, 2), (1, 9), (-8, 1))
    found = suppress_by(
        backend, get_suppressor("non_max_merge_ios:iou=0.4"), candidates_of(spans, [0.9, 0.8, 0.7])
    )
    assert_found(found, [(0, 9)], [0.9])


@ON_ALL
def test_cp_cluster_draws_a_box_to_its_strongest_friend(backend):
    found = suppress_by(backend, SUPPRESSORS["cp_cluster"], candidates_of(row(A, D), [0.8, 0.5]))
    raised = 0.8 + 0.2 * 0.5 * 0.5
    right = (10 * raised + 9 * 0.5) / (raised + 0.5)
    lowered = 0.5 * (1 - 0.9)
    # In the second round the IoU is that of the moved box, and the second box falls below 0.01.
    again = raised + (1 - raised) * 0.5 * lowered
    assert_found(found, [(0, (right * again + 9 * lowered) / (again + lowered))], [again])


@ON_ALL
def test_cp_cluster_may_leave_boxes_and_lower_a_score_once(backend):
    found = suppress_by(
        backend,
        get_suppressor("cp_cluster:move_boxes=false:repeat=false"),
        candidates_of(row(A, D), [0.8, 0.5]),
    )
    raised = 0.8 + 0.2 * 0.5 * 0.5
    assert_found(found, [A, D], [raised + (1 - raised) * 0.5 * 0.05, 0.05])


@ON_ALL
@pytest.mark.parametrize(("step", "third"), [(0, 0.3 * 0.2 * (1 - 5.6 / 10.4)), (0.1, 0.3 * 0.2)])
def test_the_second_round_of_cp_cluster_has_a_higher_threshold(step, third, backend):
    """The first box suppresses both others.

    The second overlaps the third by 0.54, which is over 0.5 but not over 0.6.
    """
    three = candidates_of(row(A, (2.4, 10.4), (0, 8)), [0.9, 0.8, 0.3])
    found = suppress_by(backend, get_suppressor(f"cp_cluster:repeat=false:step={step}"), three)
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8 * (1 - 7.6 / 10.4), third]))


@ON_ALL
def test_confluence_nms_decays_and_drops_as_its_source_does(backend):
    """Proximities to A: 0.2 of the second box, 0.65 of the third, over 0.7 of the fourth.

    The second box falls below 0.05.
    """
    spans = row(A, (0, 8), (0, 3.5), (0, 2.9))
    found = suppress_by(
        backend, SUPPRESSORS["confluence_nms"], candidates_of(spans, [0.9, 0.17, 0.6, 0.3])
    )
    assert_found(
        found,
        [A, (0, 3.5), (0, 2.9)],
        [0.9, 0.6 * exp(-(0.35**2) / 0.5), 0.3 * exp(-((1 - 0.6 / 3.5) ** 2) / 0.5)],
    )
