"""Reading a JSON list entry by entry, wherever its text is cut into pieces."""

import gzip
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.errors import UserError
from postnms.files import json_stream
from postnms.files.json_files import JsonLimits
from postnms.files.json_stream import read_json_list

ENTRIES = [{"image_id": 70, "bbox": [1, 2, 3, 4.5]}, {"image_id": 8, "score": -1}, {"a": "b"}]
LONG = [
    *ENTRIES,
    123456,
    -1.5e-300,
    True,
    {"note": '"]},[{\\ é 😀' * 9, "score": -1.25e-3, "more": {"a": [1, {"b": None}], "c": True}},
]


@settings(deadline=None)
@given(st.integers(1, 70), st.sampled_from([None, 0, 3]), st.booleans())
def test_wherever_the_text_is_cut_into_pieces_the_entries_are_the_same(
    tmp_path_factory, piece, indent, ascii_only
):
    path = tmp_path_factory.mktemp("texts") / "a.json"
    path.write_text(json.dumps(LONG * 3, indent=indent, ensure_ascii=ascii_only))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_PIECE", piece)
        assert list(read_json_list(path)) == LONG * 3


def test_a_mistake_is_found_without_reading_on(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_PIECE", 100)
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1 "b": 2},' + json.dumps(LONG * 100)[1:])
    text = json_stream._ListReader(path.open(), path)
    with (
        text._file,
        pytest.raises(UserError, match=r"malformed JSON \(Expecting ',' delimiter: character 9\)"),
    ):
        list(text.entries())
    assert len(text._text) == 100


@pytest.mark.parametrize("piece", [10, 1000, 10**6])
def test_where_a_mistake_is_does_not_depend_on_the_pieces(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(json_stream, "_PIECE", piece)
    path = tmp_path / "a.json"
    text = json.dumps(LONG * 100)
    path.write_text(text[:-1] + ", nothing]")
    with pytest.raises(
        UserError, match=rf"malformed JSON \(Expecting value: character {len(text) + 1}\)"
    ):
        list(read_json_list(path))


WHOLE = json.dumps(ENTRIES)
PACKED = gzip.compress(WHOLE.encode(), mtime=0)


@pytest.mark.parametrize("content", ["[]", " [ \n]\t", "\ufeff[]"])
def test_an_empty_list_has_no_entries(tmp_path, content):
    (tmp_path / "r.json").write_text(content, encoding="utf-8")
    assert list(read_json_list(tmp_path / "r.json")) == []


def test_gzip_gives_the_same_entries_whatever_the_file_is_called(tmp_path):
    (tmp_path / "a.gz").write_text(WHOLE)
    (tmp_path / "b.json").write_bytes(PACKED)
    for name in ("a.gz", "b.json"):
        assert list(read_json_list(tmp_path / name)) == ENTRIES


BAD = [
    ("", r"r\.json: expected a list of results, got an empty file"),
    ('{"annotations": []}', r"r\.json: expected a list of results, got text that begins with '\{'"),
    ("[", r"r\.json: malformed JSON \(Expecting value: character 1\)"),
    ('[{"a": 1} 2]', r"r\.json: malformed JSON \(expected ',' or '\]': character \d+\)"),
    ("[]]", r"r\.json: malformed JSON \(expected nothing after the list: character 2\)"),
    (WHOLE[:-1], r"malformed JSON \(expected ',' or '\]'"),
    (WHOLE[:-5], r"malformed JSON \(Expecting"),
    (WHOLE[:-1] + ",]", r"malformed JSON \(Expecting value"),
    ('[{"a": "no end', r"malformed JSON \(Unterminated string starting at: character 7\)"),
    ("[" * 200_000, r"malformed JSON \(it nests too deeply: character 1\)"),
    (f"[{'1' * 9999}]", r"malformed JSON \(an integer is too long: character 1\)"),
    (b'["\xff"]', r"r\.json: malformed JSON \(not UTF-8\)"),
    (PACKED[:-20], r"r\.json: could not be read \(Compressed file ended"),
    (gzip.compress(b"[]", mtime=0) + b"more", r"r\.json: could not be read \(Not a gzipped file"),
    (PACKED[:10] + b"\xff" * 50, r"r\.json: could not be read \(Error -3"),
]


@pytest.mark.parametrize(
    ("content", "message"), BAD, ids=[str(number) for number in range(len(BAD))]
)
def test_what_is_no_json_list_is_named(tmp_path, content, message):
    path = tmp_path / "r.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message):
        list(read_json_list(path))


def test_entries_before_a_mistake_are_read(tmp_path):
    (tmp_path / "r.json").write_text(WHOLE[:-1] + ", nothing]")
    entries = read_json_list(tmp_path / "r.json")
    assert [next(entries) for _ in ENTRIES] == ENTRIES
    with pytest.raises(UserError, match="malformed JSON"):
        next(entries)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.json: no such file of results"):
        list(read_json_list(tmp_path / "none.json"))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
def test_an_entry_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch, pack):
    """A compressed file of some kilobytes can hold one entry of gigabytes."""
    monkeypatch.setattr(json_stream, "_PIECE", 100)
    path = tmp_path / "r.json"
    path.write_bytes(pack(b'[{"a": 1}, "' + b"a" * 10**6 + b'", 2]'))
    entries = read_json_list(path, JsonLimits(entry=1000))
    assert next(entries) == {"a": 1}
    message = r"r\.json: expected an entry of at most 1000 characters, .*at character 11; "
    with pytest.raises(UserError, match=message + r"JsonLimits\.entry sets the limit"):
        next(entries)
    assert list(read_json_list(path, JsonLimits(entry=2 * 10**6)))[2] == 2


def test_a_list_that_would_never_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_PIECE", 100)
    path = tmp_path / "r.json"
    path.write_bytes(gzip.compress(b"[" + b"1," * 10**5 + b"1]"))
    with pytest.raises(UserError, match=r"r\.json: expected a text of at most 1000 characters"):
        list(read_json_list(path, JsonLimits(text=1000)))
    assert len(list(read_json_list(path))) == 10**5 + 1


def test_the_usual_limit_of_an_entry_holds_the_memory_down(tmp_path):
    path = tmp_path / "r.json"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'["')
        for _ in range(64):
            file.write(b"a" * 2**20)
    tracemalloc.start()
    with pytest.raises(UserError, match="expected an entry of at most 16777216 characters"):
        list(read_json_list(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * 2**20
