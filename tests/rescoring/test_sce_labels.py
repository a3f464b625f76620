"""What the two stages of SCE learn, by hand."""

from postnms.rescoring.sce_labels import best_of_objects, kept_by_nms
from postnms.rescoring.sequences import sequences_of
from tests.support.builders import make, truths

# Falling scores. 1 overlaps 0 by 0.9 and 2 by half, and 2 overlaps 0 by 0.4.
BOXES = [(0, 0, 10, 10), (0, 0, 9, 10), (6, 0, 16, 10), (0, 0, 10, 10), (50, 0, 60, 10)]
SCORES = [0.9, 0.8, 0.7, 0.6, 0.005]
LABELS = [0, 0, 0, 1, 0]


def arranged(boxes, scores, labels=None, image=None, num_images=1, most=None):
    candidates = make(boxes, scores, labels, image, num_images)
    columns = (candidates.scores, candidates.labels, candidates.image)
    return candidates, sequences_of(*columns, 0.01, most)


def test_stage_one_learns_what_greedy_nms_keeps():
    candidates, sequences = arranged(BOXES, SCORES, LABELS)
    assert sequences.rows.tolist() == [0, 1, 2, 3]
    # Another class is not suppressed, and a box that no stage looks at has no label.
    assert kept_by_nms(candidates, sequences, 0.5).tolist() == [True, False, True, True]
    assert kept_by_nms(candidates, sequences, 0.9).tolist() == [True] * 4


def test_a_candidate_over_the_limit_suppresses_nothing():
    candidates, sequences = arranged(BOXES[:2], [0.8, 0.9], most=1)
    assert kept_by_nms(candidates, sequences, 0.5).tolist() == [True]


def test_of_equal_scores_the_lower_row_is_kept():
    candidates, sequences = arranged([BOXES[1], BOXES[0]], [0.5, 0.5])
    assert kept_by_nms(candidates, sequences, 0.5).tolist() == [True, False]


def labelled(objects, labels=None, crowd=None, **arrangement):
    candidates, sequences = arranged(BOXES, SCORES, LABELS, **arrangement)
    best, counted = best_of_objects(
        candidates, sequences, truths(objects, labels, crowd=crowd), 0.5
    )
    return best.tolist(), counted.tolist()


def test_stage_two_learns_the_best_scored_box_of_each_object():
    # The first object lies better under box 1, but box 0 reaches 0.5 and scores more.
    best, counted = labelled([(0, 0, 9, 10), (8, 0, 16, 10), (50, 0, 60, 10)])
    assert best == [True, False, True, False]
    assert counted == [True] * 4


def test_an_overlap_of_exactly_the_threshold_is_enough_and_classes_are_apart():
    assert labelled([(0, 0, 5, 10)])[0] == [True, False, False, False]
    assert labelled([(0, 0, 4.9, 10)])[0] == [False, True, False, False]
    assert labelled([(0, 0, 10, 10)], [1])[0] == [False, False, False, True]


def test_one_box_may_be_the_best_of_two_objects():
    assert labelled([(0, 0, 10, 8), (0, 2, 10, 10)])[0] == [True, False, False, False]


def test_boxes_on_a_crowd_region_are_left_out():
    best, counted = labelled([(0, 0, 10, 10), (5, 0, 20, 10)], crowd=[False, True])
    assert best == [True, False, False, False]
    assert counted == [True, True, False, True]  # Box 2 is inside. A half of box 0 is.


def test_no_object_and_no_box():
    assert labelled([])[0] == [False] * 4
    candidates, sequences = arranged([], [])
    assert kept_by_nms(candidates, sequences, 0.5).shape == (0,)
    assert best_of_objects(candidates, sequences, truths([BOXES[0]]), 0.5)[0].shape == (0,)
