"""Foreign values in messages are short, in one line, and harmless to a terminal."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.errors import MOST_SHOWN, UserError, shown, shown_name, shown_path


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


ODD = {
    "long text": "x" * 10**6,
    "deep": nested(5000),
    "wide and deep": [[[[0] * 1000] * 1000] * 1000] * 1000,
    "a long list": list(range(10**5)),
    "an integer that Python does not write": 10**5000,
    "terminal escapes": "\x1b[31m\x07\r\n",
    "text that runs from right to left": "\u202eabc",
    "half of a surrogate pair": "\ud800",
    "a long key": {"x" * 10**6: 1},
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_values_are_short_printable_lines(kind):
    text = shown(ODD[kind])
    assert text.isprintable()
    assert 0 < len(text) <= MOST_SHOWN


@pytest.mark.parametrize(
    "value", [1, 1.5, None, True, "a", [1, 2, -3, 4], {"a": 1}, float("nan"), [3, 17, 90], ["4"]]
)
def test_usual_values_are_shown_as_they_are(value):
    assert shown(value) == repr(value)


@given(st.text())
@settings(deadline=None)
def test_names_are_shown_as_they_are_unless_they_are_odd(name):
    text = shown_name(name)
    assert text == name or (text == shown(name) and not (name and name.isprintable()))
    assert text.isprintable()
    assert shown_name(name * 1000).isprintable()
    assert 0 < len(shown_name(name * 1000)) <= MOST_SHOWN


def test_two_levels_of_a_nested_value_are_shown():
    assert shown(nested(5000)) == "[[[...]]]"
    assert shown({"a": {"b": {"c": 1}}}) == "{'a': {'b': {...}}}"


def test_a_mistake_begins_with_its_argument():
    assert str(UserError("expected a file", argument="data")) == "data: expected a file"
    assert str(UserError("expected a file")) == "expected a file"


def test_a_message_is_one_line_without_control_characters():
    error = UserError("a\x1b[31m.json: expected\na list, got \ud800\x85", argument="out")
    assert str(error) == r"out: a\x1b[31m.json: expected\na list, got \ud800\x85"


def test_an_absurd_path_loses_its_middle():
    assert shown_path(Path("a/b.png")) == "a/b.png"
    long = shown_path(Path("a" * 200 + "b" * 400 + ".png"))
    assert (len(long), long.startswith("aaa"), long.endswith("bb.png")) == (303, True, True)
