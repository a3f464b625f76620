"""What suppressors promise beyond their definitions, by hand, against peers, and in general."""

import numpy as np
import pytest
import torch
from ensemble_boxes import non_maximum_weighted, weighted_boxes_fusion
from torchvision.ops import batched_nms

from postnms.suppression import SUPPRESSORS, get_suppressor
from postnms.suppression.confluence import Confluence
from postnms.suppression.greedy import AdaptiveNMS, GreedyNMS, SetNMS
from postnms.suppression.matrix import ClusterNMS, FastNMS, MatrixNMS
from postnms.suppression.merging import NonMaxMerge
from postnms.suppression.soft import SoftNMS, VarianceVoting
from postnms.suppression.voting import NMW, WBC, BoxVoting, MergeNMS
from postnms.suppression.weighted_fusion import WBF
from tests.support.builders import candidates_of, random_candidates
from tests.support.suppression import BACKENDS, suppress_by

# A key (10x10), a box that overlaps it by 0.8 (8 of its 10 columns: 80 / 100), and one far away.
THREE = candidates_of([[0, 0, 10, 10], [0, 0, 8, 10], [50, 0, 60, 10]], [0.8, 0.4, 0.6])

TABLE = [
    (GreedyNMS(), [([0, 0, 10, 10], 0.8), ([50, 0, 60, 10], 0.6)]),
    (
        GreedyNMS(iou_threshold=0.8),
        [([0, 0, 10, 10], 0.8), ([50, 0, 60, 10], 0.6), ([0, 0, 8, 10], 0.4)],
    ),
    (GreedyNMS(score_threshold=0.6), [([0, 0, 10, 10], 0.8)]),
    (GreedyNMS(max_detections=1), [([0, 0, 10, 10], 0.8)]),
    (
        SoftNMS(method="linear"),
        [([0, 0, 10, 10], 0.8), ([50, 0, 60, 10], 0.6), ([0, 0, 8, 10], 0.08)],
    ),
    (
        SoftNMS(method="gaussian"),
        [([0, 0, 10, 10], 0.8), ([50, 0, 60, 10], 0.6), ([0, 0, 8, 10], 0.4 * np.exp(-0.64 / 0.5))],
    ),
    (SoftNMS(method="linear", min_score=0.1), [([0, 0, 10, 10], 0.8), ([50, 0, 60, 10], 0.6)]),
    # right edge: (0.8 * 10 + 0.4 * 8) / 1.2
    (BoxVoting(vote_threshold=0.7), [([0, 0, 28 / 3, 10], 0.8), ([50, 0, 60, 10], 0.6)]),
    (
        BoxVoting(vote_threshold=0.7, score_method="avg"),
        [([0, 0, 28 / 3, 10], 0.6), ([50, 0, 60, 10], 0.6)],
    ),
    (BoxVoting(vote_threshold=0.8), [([0, 0, 10, 10], 0.8), ([50, 0, 60, 10], 0.6)]),
    (MergeNMS(), [([0, 0, 28 / 3, 10], 0.8), ([50, 0, 60, 10], 0.6)]),
    # weights 0.8 * 1 and 0.4 * 0.8
    (NMW(), [([0, 0, (8 + 2.56) / 1.12, 10], 0.8), ([50, 0, 60, 10], 0.6)]),
    (NonMaxMerge(), [([0, 0, 10, 10], 0.8), ([50, 0, 60, 10], 0.6)]),
    # the mean of 0.8 and 0.4; of equal scores the lower row goes first
    (WBF(), [([0, 0, 28 / 3, 10], 0.6), ([50, 0, 60, 10], 0.6)]),
    # weights 1 * 100 and 0.8 * 80: score (80 + 25.6) / 164
    (WBC(), [([0, 0, (800 + 204.8) / 105.6, 10], 105.6 / 164), ([50, 0, 60, 10], 0.6)]),
    # one vote of two is missing for the far box
    (
        WBC(expected_votes=2),
        [([0, 0, (800 + 204.8) / 105.6, 10], 105.6 / 164), ([50, 0, 60, 10], 0.3)],
    ),
    (FastNMS(), [([0, 0, 10, 10], 0.8), ([50, 0, 60, 10], 0.6)]),
    (
        ClusterNMS(score_penalty=True),
        [([0, 0, 10, 10], 0.8), ([50, 0, 60, 10], 0.6), ([0, 0, 8, 10], 0.4 * np.exp(-0.64 / 0.2))],
    ),
    # proximity 2 / 10
    (
        Confluence(),
        [
            ([0, 0, 10, 10], 0.8),
            ([50, 0, 60, 10], 0.6),
            ([0, 0, 8, 10], 0.4 * np.exp(-0.64 / 0.5)),
        ],
    ),
    (
        MatrixNMS(method="linear"),
        [([0, 0, 10, 10], 0.8), ([50, 0, 60, 10], 0.6), ([0, 0, 8, 10], 0.08)],
    ),
]


@pytest.mark.parametrize(("rule", "wanted"), TABLE, ids=lambda value: value.__class__.__name__)
@pytest.mark.parametrize("backend", BACKENDS)
def test_table_worked_by_hand(rule, wanted, backend):
    found = suppress_by(backend, rule, THREE)
    torch.testing.assert_close(
        found.boxes, torch.tensor([box for box, _ in wanted], dtype=torch.float32)
    )
    torch.testing.assert_close(
        found.scores, torch.tensor([score for _, score in wanted], dtype=torch.float32)
    )


def test_soft_nms_selects_the_maximum_again():
    """B decays under C by the overlap with A, so C must come before B and decay D.

    One pass in the first order would not do that.
    """
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [30, 0, 40, 10], [30, 0, 40, 8]]
    found = SoftNMS(method="linear", min_score=0)(candidates_of(boxes, [0.9, 0.8, 0.7, 0.6]))
    assert found.source.tolist() == [0, 2, 3, 1]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.7, 0.6 * 0.2, 0.8 * 0.1]))


def test_fast_nms_lets_a_dropped_box_drop_another():
    chain = candidates_of(
        [[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]], [0.9, 0.8, 0.7]
    )  # IoU 7/13 of neighbours
    assert GreedyNMS()(chain).source.tolist() == [0, 2]
    assert FastNMS()(chain).source.tolist() == [0]


def test_set_nms_spares_boxes_of_one_source():
    copies = candidates_of([[0, 0, 10, 10]] * 3, [0.9, 0.8, 0.7], source=[4, 4, 5])
    assert SetNMS()(copies).source.tolist() == [4, 4]


def test_adaptive_nms_takes_the_density_of_the_key():
    pair = [[0, 0, 10, 10], [0, 0, 8, 10]]
    assert len(AdaptiveNMS()(candidates_of(pair, [0.9, 0.5], density=[0.85, 0.0])).scores) == 2
    assert len(AdaptiveNMS()(candidates_of(pair, [0.9, 0.5], density=[0.7, 0.9])).scores) == 1


def test_iou_guided_nms_goes_by_the_predicted_iou_and_keeps_the_best_score():
    pair = candidates_of([[0, 0, 10, 10], [0, 0, 8, 10]], [0.9, 0.5], iou=[0.3, 0.6])
    found = SUPPRESSORS["iou_guided_nms"](pair)
    assert found.source.tolist() == [1]
    torch.testing.assert_close(found.scores, torch.tensor([0.9]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_variance_voting_with_variances_far_apart(backend):
    """In one batch and in one vote: weights of exp(120) and exp(-120) leave what they are of."""
    boxes = [[0, 0, 10, 10], [50, 0, 60, 10], [50, 0, 59, 10]]
    variances = [[0.0] * 4, [120.0] * 4, [-120.0] * 4]
    three = candidates_of(boxes, [0.9, 0.8, 0.3], edge_log_variance=variances)
    found = suppress_by(backend, VarianceVoting(), three)
    torch.testing.assert_close(found.boxes[:2], torch.tensor([[0.0, 0, 10, 10], [50, 0, 59, 10]]))


def test_powers_of_scores_neither_vanish_nor_overflow():
    alone = candidates_of([[0, 0, 10, 10]], [0.1])
    for method, beta in (("generalized_avg", 50), ("temp_avg", 1000), ("temp_avg", 0.005)):
        found = BoxVoting(score_method=method, beta=beta)(alone)
        wanted = {
            "generalized_avg": 0.1,
            "temp_avg": 1 / (1 + 9 ** (1 / beta)) if beta > 1 else 0.0,
        }[method]
        assert found.scores.item() == pytest.approx(wanted, abs=1e-6)


def test_sums_do_not_depend_on_threads():
    candidates = random_candidates(20_000, images=40, classes=4)
    rules = [
        get_suppressor(f"{name}:max_detections=1000")
        for name in ("wbf", "wbc", "box_voting", "cluster_nms_all")
    ]
    own = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        wanted = [rule(candidates) for rule in rules]
        torch.set_num_threads(4)
        for rule, alone in zip(rules * 3, wanted * 3, strict=True):
            found = rule(candidates)
            assert torch.equal(found.boxes, alone.boxes)
            assert torch.equal(found.scores, alone.scores)
    finally:
        torch.set_num_threads(own)


@pytest.mark.parametrize("backend", BACKENDS)
def test_wbf_joins_over_the_threshold_not_at_it(backend):
    pair = candidates_of([[0, 0, 10, 10], [0, 0, 5, 10]], [0.9, 0.5])  # IoU 0.5
    for threshold, count in ((0.5, 2), (0.49, 1)):
        assert len(suppress_by(backend, WBF(iou_threshold=threshold), pair).scores) == count


def test_class_agnostic_boxes_meet_and_keep_their_labels():
    pair = candidates_of([[0, 0, 10, 10], [0, 0, 10, 9]], [0.5, 0.9], labels=[3, 1])
    assert GreedyNMS()(pair).labels.tolist() == [1, 3]
    assert GreedyNMS(class_agnostic=True)(pair).labels.tolist() == [1]


def test_variance_voting_leans_to_the_sure_edges():
    pair = [[0, 0, 10, 10], [0, 0, 9, 10]]
    sure = VarianceVoting(vote_sigma=1.0)(
        candidates_of(pair, [0.9, 0.5], edge_log_variance=[[0, 0, 0, 0], [0, 0, 9, 0]])
    )
    swayed = VarianceVoting(vote_sigma=1.0)(
        candidates_of(pair, [0.9, 0.5], edge_log_variance=[[0, 0, 9, 0], [0, 0, 0, 0]])
    )
    assert sure.boxes[0, 2] > 9.99
    assert swayed.boxes[0, 2] < 9.01


@pytest.mark.parametrize("backend", ["cpu", "eager"])
@pytest.mark.parametrize(
    "name", ["nms", "cluster_nms", "soft_nms_linear:method=hard:min_score=0:iou_threshold=0.5"]
)
def test_is_greedy_nms_of_torchvision(name, backend):
    candidates = random_candidates(1500)
    kept = batched_nms(candidates.boxes, candidates.scores, candidates.groups, 0.5)
    found = get_suppressor(f"{name}:max_detections=2000")(candidates, backend=backend)
    assert sorted(found.source.tolist()) == sorted(kept.tolist())
    torch.testing.assert_close(found.scores, candidates.scores[found.source])


@pytest.mark.parametrize("backend", ["cpu", "eager"])
@pytest.mark.parametrize(
    "confidence", ["avg", "max", "box_and_model_avg", "absent_model_aware_avg"]
)
@pytest.mark.parametrize("weights", [(1.0,), (2.0, 1.0, 0.5)])
def test_wbf_is_that_of_ensemble_boxes(weights, confidence, backend):
    candidates = random_candidates(400, images=1, side=0.6)
    candidates = candidates_of(
        (candidates.boxes / 45).tolist(),
        candidates.scores.tolist(),
        candidates.labels.tolist(),
        model=(torch.arange(400) % len(weights)).float().tolist(),
    )
    models = [candidates.extra["model"] == model for model in range(len(weights))]
    columns = [
        [column[rows].tolist() for rows in models]
        for column in (candidates.boxes, candidates.scores, candidates.labels)
    ]
    boxes, scores, labels = weighted_boxes_fusion(
        *columns, weights=list(weights), iou_thr=0.5, conf_type=confidence
    )
    rule = WBF(iou_threshold=0.5, confidence=confidence, model_weights=weights, max_detections=1000)
    found = rule(candidates, backend=backend)
    assert len(boxes) < 350
    assert_same_detections(found, boxes, scores, labels)


@pytest.mark.parametrize("backend", ["cpu", "eager"])
def test_nmw_is_that_of_ensemble_boxes(backend):
    candidates = random_candidates(400, images=1, side=0.6)
    candidates = candidates_of(
        (candidates.boxes / 45).tolist(), candidates.scores.tolist(), candidates.labels.tolist()
    )
    columns = [
        [column.tolist()] for column in (candidates.boxes, candidates.scores, candidates.labels)
    ]
    boxes, scores, labels = non_maximum_weighted(*columns, iou_thr=0.5)
    found = NMW(iou_threshold=0.5, max_detections=1000)(candidates, backend=backend)
    assert len(boxes) < 350
    assert_same_detections(found, boxes, scores, labels)


def assert_same_detections(found, boxes, scores, labels):
    theirs = torch.tensor(np.column_stack([labels, scores, boxes]), dtype=torch.float32)
    ours = torch.cat([found.labels[:, None], found.scores[:, None], found.boxes], dim=1)
    assert len(ours) == len(theirs)
    theirs, ours = (rows[np.lexsort(rows.numpy().T[::-1].round(4))] for rows in (theirs, ours))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
