"""The oracle that picks each cluster's best member, by hand and against plain loops."""

import torch
from hypothesis import given, settings

from postnms.analysis.oracle import best_member
from postnms.boxes import pairwise_iou
from postnms.clustering import cluster, keep_keys
from tests.support.builders import CLUSTERS, make, scenes, truths

KEY, MEMBER, APART = [0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]


def test_the_member_that_fits_gives_its_box_and_the_key_the_rest():
    found = best_member(CLUSTERS, truths([(4, 0, 14, 10)]))
    assert found.boxes.tolist() == [MEMBER, APART]
    assert found.scores.tolist() == CLUSTERS.candidates.scores[[0, 2]].tolist()
    assert found.source.tolist() == [0, 2]


def test_any_object_of_the_class_counts_but_no_other():
    near, exact = (0, 0, 10, 9), (2, 0, 12, 10)
    assert best_member(CLUSTERS, truths([near, exact])).boxes.tolist() == [MEMBER, APART]
    assert best_member(CLUSTERS, truths([near, exact], labels=[0, 1])).boxes.tolist() == [
        KEY,
        APART,
    ]
    assert best_member(CLUSTERS, truths([near, exact], crowd=[False, True])).boxes.tolist() == [
        KEY,
        APART,
    ]
    two = cluster(make([(0, 0, 10, 10), (2, 0, 12, 10)], [0.8, 0.4], num_images=2))
    assert best_member(two, truths([near, exact], image=[0, 1], num_images=2)).boxes.tolist() == [
        KEY
    ]


def test_of_equal_members_the_first_by_score_then_by_index():
    # Rows 1 to 3 are alike to the truth, which none of them covers; the key is row 4.
    boxes = [(0, 0, 10, 10), (1, 0, 11, 10), (0, 1, 10, 11), (1, 0, 11, 10), (0, 0, 10, 10)]
    clusters = cluster(make(boxes, [0.1, 0.5, 0.6, 0.6, 0.9]))
    assert clusters.keys.tolist() == [4]
    assert best_member(clusters, truths([(1, 1, 11, 11)])).boxes.tolist() == [[0, 1, 10, 11]]


def test_nothing_overlapped_is_plain_nms():
    kept = keep_keys(CLUSTERS, 100)[0]
    for targets in (truths([]), truths([(80, 80, 90, 90)])):
        assert torch.equal(best_member(CLUSTERS, targets).boxes, kept.boxes)
    assert best_member(cluster(make([], [])), truths([(0, 0, 1, 1)])).boxes.shape == (0, 4)


def test_at_most_so_many_an_image():
    found = best_member(CLUSTERS, truths([(4, 0, 14, 10), (50, 50, 60, 60)]), max_detections=1)
    assert found.boxes.tolist() == [MEMBER]


@given(scenes())
@settings(max_examples=200, deadline=None)
def test_equal_to_plain_loops(case):
    clusters, targets = case
    candidates = clusters.candidates
    iou = pairwise_iou(candidates.boxes, targets.boxes)
    expected = []
    for position, key in enumerate(clusters.keys.tolist()):
        chosen, best = key, 0.0
        members = (clusters.assignment == position).nonzero().squeeze(1).tolist()
        for member in sorted(members, key=lambda row: (-float(candidates.scores[row]), row)):
            for row in range(len(targets.labels)):
                same = (
                    targets.image[row] == candidates.image[key]
                    and targets.labels[row] == candidates.labels[key]
                )
                if same and not targets.crowd[row] and iou[member, row] > best:
                    chosen, best = member, float(iou[member, row])
        image, score = int(candidates.image[key]), float(candidates.scores[key])
        expected.append(
            (
                image,
                -score,
                position,
                candidates.boxes[chosen].tolist(),
                int(candidates.labels[key]),
            )
        )
    found = best_member(clusters, targets)
    rows = sorted(expected)
    assert found.boxes.tolist() == [row[3] for row in rows]
    assert found.labels.tolist() == [row[4] for row in rows]
    assert found.image.tolist() == [row[0] for row in rows]
    assert found.scores.tolist() == [-row[1] for row in rows]
