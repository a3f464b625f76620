"""Figures over seeds as text."""

import math

from postnms.experiments.intervals import Estimate
from postnms.experiments.tables import cells, heads, mean, one_line, spread, table


def test_the_spread_is_the_deviation_of_a_sample():
    # The squares of the distances from 3 are 4, 1, 0, 1, 4: their sum over 4 is 2.5.
    assert spread([1, 2, 3, 4, 5]) == "3.0 ± 1.6 (1.0 to 5.0)"
    assert spread([1.0, None]) == mean([1.0, None]) == "-"


def test_one_seed_has_no_spread_and_no_mean():
    assert spread([3.14]) == "3.1"
    found = cells([4], [4], Estimate((-0.5,), -0.5, -1.0, 0.25), "+.2f")
    assert found == ["**-0.50**", "-1.00 to +0.25"]
    assert len(heads([4])) == len(found)


def test_what_is_undefined_or_not_there_is_a_dash():
    nothing = Estimate((math.nan, 1.0), math.nan, None, None)
    assert cells([0, 3], [0, 3], nothing, "+.2f") == ["-", "+1.00", "**-**", "-"]
    some = Estimate((2.0,), 2.0, 1.0, 3.0)
    assert cells([0, 3, 4], [3], some, ".1f") == ["-", "2.0", "-", "**2.0**", "1.0 to 3.0"]
    assert cells([0, 3], [], None, ".1f") == ["-"] * 4
    assert cells([0], [], None, ".1f") == ["-"] * 2


def test_a_table_holds_any_text():
    assert one_line("a\nb\x1b[31m") == "a b [31m"
    assert table(["x"], [["a|b\nc"]]).splitlines() == ["| x |", "|---|", "| a\\|b c |"]
