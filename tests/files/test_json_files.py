"""JSON that is damaged in any way is one message that names the file."""

import pytest

from postnms.errors import UserError
from postnms.files.json_files import MOST_LEVELS, JsonLimits, check_facts, parse_json, read_json

DAMAGED = {
    "nothing": (b"", "Expecting value: line 1 column 1"),
    "cut off": (b'{"a": [1, 2', "Expecting ',' delimiter"),
    "not UTF-8": (b'{"a": "\xff\xfe"}', "not UTF-8 at byte 7"),
    "half of a surrogate pair as bytes": (b'["\xed\xa0\x80"]', "not UTF-8 at byte 2"),
    "UTF-16": ("[1]".encode("utf-16"), "not UTF-8 at byte 0"),
    "deep": (b"[" * 200_000, "it nests too deeply"),
    "an integer of 5,000 digits": (b"[" + b"9" * 5000 + b"]", "an integer is too long"),
    "two values": (b"1 2", "Extra data"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_text_is_named(tmp_path, kind):
    text, reason = DAMAGED[kind]
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(UserError, match=rf"a\.json: malformed JSON \({reason}"):
        read_json(path)
    with pytest.raises(UserError, match=rf"recipe: malformed JSON \({reason}"):
        parse_json(text, "recipe")


def test_a_value_is_read(tmp_path):
    path = tmp_path / "a.json"
    text = '{"a": [1, null, "é"], "b": 2, "b": 3}'
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text(text, encoding=encoding)
        assert read_json(path) == {"a": [1, None, "é"], "b": 3}
    assert parse_json(text, "recipe") == read_json(path)


def test_a_file_that_is_too_large_is_refused_and_the_limit_can_be_raised(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[1, 2, 3]")
    with pytest.raises(UserError, match=r"a\.json: expected at most 8 bytes of JSON, got 9; "):
        read_json(path, JsonLimits(file=8))
    assert read_json(path, JsonLimits(file=9)) == [1, 2, 3]
    with path.open("ab") as file:
        file.truncate(2**40)  # The file is sparse. No disk has to hold it.
    with pytest.raises(UserError, match="bytes of JSON, got 1099511627776"):
        read_json(path)


def nested(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


FACTS = [
    ({"a": [1, float("nan")]}, r"about\.a\[1\]: expected a finite number, got nan"),
    ({"a": {"\x1b": parse_json("1e400", "")}}, r"about\.a\.'\\x1b': .*got inf"),
    (nested(MOST_LEVELS + 1), r"about: expected at most 100 levels of nesting, got more"),
]


@pytest.mark.parametrize(("value", "message"), FACTS)
def test_facts_are_what_json_can_hold_again(value, message):
    with pytest.raises(UserError, match=message):
        check_facts(value, "about")
    check_facts({"a": nested(MOST_LEVELS - 1), "b": [1.5, None, True, "x", 10**30]}, "about")


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(UserError, match="could not be read"):
        read_json(tmp_path)
