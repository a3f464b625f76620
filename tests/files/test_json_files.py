"""JSON that is damaged in any way is one message that names the file."""

import pytest

from postnms.errors import UserError
from postnms.files.json_files import parse_json, read_json

DAMAGED = {
    "nothing": b"",
    "cut off": b'{"a": [1, 2',
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "deep": b"[" * 200_000,
    "an integer of 5,000 digits": b"[" + b"9" * 5000 + b"]",
    "two values": b"1 2",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_text_is_named(tmp_path, kind):
    path = tmp_path / "a.json"
    path.write_bytes(DAMAGED[kind])
    with pytest.raises(UserError, match=r"a\.json: malformed JSON"):
        read_json(path)
    with pytest.raises(UserError, match="recipe: malformed JSON"):
        parse_json(DAMAGED[kind], "recipe")


def test_a_value_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, null, "x"]}')
    assert read_json(path) == {"a": [1, None, "x"]}


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(UserError, match="could not be read"):
        read_json(tmp_path)
