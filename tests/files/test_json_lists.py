"""JSON with long lists is what the module ``json`` reads, without the fields that are left out."""

import json
from pathlib import Path

import pytest

from postnms.errors import UserError
from postnms.files.json_files import JsonLimits
from postnms.files.json_lists import LongList, read_long_lists

LISTS = {"boxes": ("id", "name")}


@pytest.fixture
def read(tmp_path):
    def call(text, limits=None):
        path = tmp_path / "a.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_long_lists(path, LISTS, limits or JsonLimits())

    return call


def oracle(text):
    """The same with the module ``json`` alone."""
    content = json.loads(text)
    if isinstance(content, dict) and isinstance(content.get("boxes"), list):
        content["boxes"] = [
            {name: entry.get(name) for name in LISTS["boxes"]} if isinstance(entry, dict) else entry
            for entry in content["boxes"]
        ]
    return content


PLAIN = '{"year": 2017, "boxes": [{"id": 1, "polygon": [3.5, [4]], "name": "ö"}, {"id": 2.0}]}'
ODD = [
    PLAIN,
    "[1, 2]",
    "null",
    "{}",
    '{"boxes": null}',
    '{"boxes": {"id": 1}, "other": [1]}',
    '{"boxes": []}',
    '{"boxes": [3, null, [1], "text", {"id": 1}, {}]}',
    '{"boxes": [{"id": null, "name": true}]}',
    '{"boxes": [{"id": 1, "id": 2}], "boxes": [{"id": 3}]}',
    f'{{"boxes": [{{"id": {2**70}}}, {{"id": 1{"0" * 300}}}, {{"id": -{2**63 + 1}}}]}}',
    '{"boxes": [{"id": 0.1}, {"id": 1e400}, {"id": 5e-324}, {"id": -0.0}]}',
    '{"boxes": [{"id": Infinity}], "x": 1}',
    '{"boxes": [{"other": -Infinity, "id": 1}]}',
    '{"boxes": [{"id": "\\ud800", "name": "\\u00e9\\n"}]}',
    ' \n{"boxes" : [ {"id" : 1 } ] } \n',
]


@pytest.mark.parametrize("text", ODD)
def test_what_json_reads_is_read(read, text):
    found = read(text)
    if isinstance(found, dict) and isinstance(found.get("boxes"), LongList):
        assert len(found["boxes"]) == len(list(found["boxes"]))
        found["boxes"] = list(found["boxes"])
    assert repr(found) == repr(oracle(text))


def test_fields_are_left_out_without_python_objects(read):
    assert isinstance(read(PLAIN)["boxes"], LongList)
    marked = read(PLAIN.encode("utf-8-sig"))
    assert isinstance(marked["boxes"], LongList)
    assert list(marked["boxes"]) == oracle(PLAIN)["boxes"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"malformed JSON \(Expecting value"),
        ('{"boxes": [{"id": 1}', r"malformed JSON \(Expecting ',' delimiter"),
        ('{"boxes": [{"id": 1}]} 2', r"malformed JSON \(Extra data"),
        ('{"boxes": [{"id": 01}]}', r"malformed JSON"),
        (b'{"boxes": [{"id": "\xff"}]}', r"malformed JSON \(not UTF-8 at byte"),
        ('{"x": ' + "[" * 100_000, r"malformed JSON \(it nests too deeply\)"),
        (f'{{"boxes": [{{"id": 1{"0" * 5000}}}]}}', r"malformed JSON \(an integer is too long\)"),
        ('{"boxes": [{"id": "\\x"}]}', r"malformed JSON \(Invalid"),
    ],
)
def test_malformed_json_names_the_file(read, text, message):
    with pytest.raises(UserError, match=r"a\.json.*" + message):
        [*read(text)["boxes"]]


def test_a_file_over_the_limit_is_refused(read):
    with pytest.raises(UserError, match="expected at most 20 bytes of JSON"):
        read(PLAIN, JsonLimits(file=20))
    with pytest.raises(UserError, match="could not be read"):
        read_long_lists(Path("none.json"), LISTS)
