"""The images of a report are those where two rows differ most."""

import numpy as np

from postnms.evaluation.image_figures import ImageFigures
from postnms.report.chosen import choose

NAN = float("nan")


def figures(ap, objects=None):
    ap = np.array(ap)
    objects = np.ones(len(ap), np.int64) if objects is None else np.array(objects)
    return ImageFigures(ap, objects, np.zeros((2, len(ap)), np.int64))


def test_losses_come_first_and_both_sides_are_sorted():
    before = figures([50.0, 50, 50, 50, 50, NAN])
    after = figures([40.0, 70, 20, 55, 50, NAN])
    chosen = choose(before, after, 4)
    assert (chosen.losses, chosen.wins) == ((2, 0), (1, 3))
    assert chosen.all == (2, 0, 1, 3)


def test_what_one_side_lacks_the_other_one_gets():
    before, after = figures([50.0] * 6), figures([40.0, 41, 42, 43, 60, 50])
    chosen = choose(before, after, 4)
    assert (chosen.losses, chosen.wins) == ((0, 1, 2), (4,))
    chosen = choose(after, before, 4)
    assert (chosen.losses, chosen.wins) == ((4,), (0, 1, 2))


def test_equal_images_go_by_their_objects_then_by_their_place():
    before = figures([50.0] * 4, [1, 5, 5, 2])
    assert choose(before, figures([40.0] * 4), 3).losses == (1, 2, 3)


def test_without_another_row_the_worst_images_are_chosen():
    chosen = choose(figures([30.0, NAN, 10, 20]), None, 2)
    assert (chosen.losses, chosen.wins) == ((2, 3), ())


def test_without_a_difference_the_worst_images_are_chosen():
    same = figures([30.0, NAN, 10, 20])
    assert choose(same, same, 2) == choose(same, None, 2)
    assert not choose(same, same, 2).differ


def test_nothing_to_choose():
    assert choose(figures([]), figures([]), 4).all == ()
    assert choose(figures([NAN]), figures([NAN]), 4).all == ()
    assert choose(figures([50.0]), figures([40.0]), 0).all == ()
