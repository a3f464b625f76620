"""Labels find places where they cover nothing."""

from hypothesis import given
from hypothesis import strategies as st

from postnms.drawing.labels import Rect, free_place, spots_around, spots_of_box

BOUNDS = Rect(0, 0, 300, 200)


def test_rectangles_that_touch_do_not_meet():
    assert not Rect(0, 0, 10, 10).meets(Rect(10, 0, 20, 10))
    assert not Rect(0, 0, 10, 10).meets(Rect(0, 10, 10, 20))
    assert Rect(0, 0, 10, 10).meets(Rect(9, 9, 20, 20))
    assert BOUNDS.holds(BOUNDS)
    assert not BOUNDS.holds(Rect(-1, 0, 10, 10))


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 200)), max_size=30))
def test_placed_labels_lie_inside_and_apart(points):
    taken = []
    for x, y in points:
        free_place(spots_around(x, y, 60, 12), BOUNDS, taken)
    for number, one in enumerate(taken):
        assert BOUNDS.holds(one)
        assert not any(one.meets(other) for other in taken[:number])


def test_a_free_label_stands_close_to_its_point_and_over_its_box():
    place = free_place(spots_around(150, 100, 60, 12), BOUNDS, [])
    assert (place.left, (place.top + place.bottom) / 2) == (158, 100)
    place = free_place(spots_of_box((50, 60, 90, 100), 30, 10), BOUNDS, [])
    assert place == Rect(50, 50, 80, 60)


def test_without_room_there_is_no_place():
    taken = [BOUNDS]
    assert free_place(spots_around(150, 100, 60, 12), BOUNDS, taken) is None
    assert taken == [BOUNDS]
