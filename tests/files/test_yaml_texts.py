"""YAML is read as texts, and whatever is wrong with it is one line."""

import pytest

from postnms.errors import UserError
from postnms.files.yaml_texts import parse_yaml_texts, read_yaml_texts


def test_all_scalars_are_texts(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: [no, 1, 1.50, ~, 2020-01-01]\r\nb: {0: \xc3\xa9}\r\n")
    assert read_yaml_texts(path) == {"a": ["no", "1", "1.50", "~", "2020-01-01"], "b": {"0": "é"}}
    path.write_text("")
    assert read_yaml_texts(path) == ""


WRONG = {
    "syntax": (b"a: [1\nb: 2\n", r"^x:2: malformed YAML \("),
    "tab": (b"a:\n\t- 1\n", r"^x:2: malformed YAML \("),
    "two documents": (b"a: 1\n---\nb: 2\n", r"^x:2: malformed YAML \("),
    "an anchor that is not there": (b"a: *b\n", r"^x:1: malformed YAML \("),
    "a key that is a list": (b"? [1]\n: 2\n", r"^x:1: malformed YAML \(found unhashable key"),
    "bytes": (b"a: \xff\n", r"^x: malformed YAML \(not UTF-8 at byte 3\)"),
    "a control character": (b"a: \x01\n", r"^x: malformed YAML \("),
    "depth": (5000 * b"[", r"^x: malformed YAML \(it nests too deeply\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_have_their_line(name):
    text, message = WRONG[name]
    with pytest.raises(UserError, match=message) as error:
        parse_yaml_texts(text, "x")
    assert "\n" not in str(error.value)


def test_tags_build_nothing():
    assert parse_yaml_texts(b"a: !!python/object/apply:os.getcwd []", "x") == {"a": []}


def test_files_that_are_missing_or_too_large_are_named(tmp_path):
    path = tmp_path / "a.yaml"
    with pytest.raises(UserError, match=r"a\.yaml: could not be read"):
        read_yaml_texts(path)
    path.write_text("a: 1")
    with pytest.raises(UserError, match=r"a\.yaml: expected at most 3 bytes of YAML, got 4"):
        read_yaml_texts(path, most=3)
