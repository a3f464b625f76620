"""The axis of AP shows how rows differ, whatever lies far off."""

import pytest

from postnms.analysis.ranges import shown_range

ORACLE = frozenset({"oracle"})


def test_oracle_and_hopeless_rows_lie_beyond_the_axis():
    rows = {"nms": 75.0, "a": 74.0, "b": 77.0, "none": 40.0, "worse": 20.0, "oracle": 92.0}
    shown = shown_range(rows, "nms", ORACLE)
    assert 72 < shown.low < 74
    assert 77 < shown.high < 79
    assert (shown.above, shown.below) == (("oracle",), ("none", "worse"))


def test_an_oracle_that_is_near_is_shown():
    shown = shown_range({"nms": 75.0, "b": 77.0, "oracle": 77.1}, "nms", ORACLE)
    assert shown.above == ()


@pytest.mark.parametrize("ap", [0.0, 50.0, 100.0])
def test_equal_rows_have_an_axis_too(ap):
    shown = shown_range({"nms": ap, "b": ap}, "nms", ORACLE)
    assert 0 <= shown.low <= ap <= shown.high <= 100
    assert shown.high > shown.low
    assert (shown.above, shown.below) == ((), ())


def test_without_the_baseline_the_median_takes_its_place():
    shown = shown_range({"a": 50.0, "b": 51.0, "c": 52.0, "far": 10.0}, None, ORACLE)
    assert shown.below == ("far",)
    assert shown_range({"oracle": 50.0}, "nms", ORACLE).above == ()
