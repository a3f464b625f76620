"""Reading files of candidates: what was written comes back, and broken files are named."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from postnms.candidate_files.columns import FORMAT_OF_ANY_IDS
from postnms.candidate_files.reader import open_candidates
from postnms.errors import UserError
from postnms.structures import take
from tests.support.candidate_files import CATEGORIES, assert_equal, change, whole, write


def read_whole(file, images):
    parts, ids = [], []
    for some, chunk in file.chunks(images):
        assert len(some) == chunk.num_images == min(images, len(file) - len(ids))
        parts.append((chunk, len(ids)))
        ids += some
    assert tuple(ids) == file.image_ids
    return whole(parts, len(ids))


@pytest.mark.parametrize("images", [1, 2, 3, 64])
def test_what_was_written_comes_back_by_image(tmp_path, images):
    written, row = write(tmp_path / "a.safetensors")
    file = open_candidates(tmp_path / "a.safetensors")
    assert (len(file), file.num_candidates) == (7, 7)
    assert file.image_ids == (1000, 999, 998, 997, 996, 995, 994)
    assert file.categories == CATEGORIES
    assert (file.annotations, file.provenance) == ("val.json", {"commit": "abc", "seed": 3})
    assert file.milliseconds == {"nms": 2.0, "post_nms": pytest.approx(4 / 7)}
    assert file.rows == ("nms", "post_nms")
    assert file.extra == ("edges", "iou")
    assert_equal(read_whole(file, images), written)
    assert_equal(file.row("post_nms"), row)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=4), st.integers(1, 9))
def test_however_images_are_batched_and_read_the_whole_is_the_same(
    tmp_path_factory, batches, images
):
    path = tmp_path_factory.mktemp("files") / "a.safetensors"
    written, row = write(path, [*batches, [1]])
    file = open_candidates(path)
    assert_equal(read_whole(file, images), written)
    assert_equal(file.row("nms"), row)


@pytest.mark.parametrize(("start", "stop"), [(0, 7), (1, 3), (4, 5), (6, 7), (3, 3), (0, 0)])
def test_a_part_has_the_candidates_and_rows_of_some_images(tmp_path, start, stop):
    written, row = write(tmp_path / "a.safetensors")
    mine, rows = open_candidates(tmp_path / "a.safetensors").part(start, stop)
    assert list(rows) == ["nms", "post_nms"]
    for part, all_of_it in ((mine, written), (rows["nms"], row), (rows["post_nms"], row)):
        chosen = take(all_of_it, (all_of_it.image >= start) & (all_of_it.image < stop))
        moved = replace(chosen, image=chosen.image - start, num_images=stop - start)
        assert_equal(part, moved)


def test_a_broken_value_is_named_in_a_part(tmp_path):
    path = tmp_path / "a.safetensors"
    write(path)
    change(path, "rows.nms.scores", lambda scores: scores.fill_(float("inf")))
    with pytest.raises(UserError, match=r"a\.safetensors: row 'nms': Detections\.scores"):
        open_candidates(path).part(0, 1)


def test_a_row_that_is_not_there_and_a_chunk_of_nothing(tmp_path):
    write(tmp_path / "a.safetensors")
    file = open_candidates(tmp_path / "a.safetensors")
    with pytest.raises(
        UserError, match=r"a\.safetensors: no row 'post_nmz' \(did you mean 'post_nms'\?\)"
    ):
        file.row("post_nmz")
    with pytest.raises(ValueError, match=r"chunks\.images: expected at least 1, got 0"):
        next(file.chunks(0))


def test_nothing_is_read_before_its_turn(tmp_path):
    path = tmp_path / "a.safetensors"
    write(path)
    change(path, "scores", lambda scores: scores.index_fill(0, torch.tensor([4]), float("nan")))
    chunks = open_candidates(path).chunks(3)
    assert len(next(chunks)[1].scores) == 3
    with pytest.raises(
        UserError,
        match=r"a\.safetensors: images 997 to 995: Candidates\.scores: .*got nan in row 1",
    ):
        next(chunks)


BROKEN = [
    ("boxes", lambda boxes: boxes[1:].clone(), {},
     r"boxes: expected F32 of \[7, 4\], got F32 of \[6, 4\]"),
    ("boxes", lambda boxes: boxes.double(), {}, r"boxes: expected F32 of \[7, 4\], got F64"),
    ("labels", lambda labels: labels + 1, {}, r"labels: expected 0 to 2, got 1 to 3"),
    ("labels", lambda labels: labels - 1, {}, r"labels: expected 0 to 2, got -1"),
    ("rows.nms.labels", lambda labels: labels + 3, {}, r"rows\.nms\.labels: expected 0 to 2"),
    ("rows.nms.source", lambda source: None, {}, r"rows\.nms\.source: no such tensor"),
    ("rows.more.scores", lambda nothing: torch.zeros(1), {},
     r"rows\.more\.offsets: no such tensor"),
    ("offsets", lambda offsets: offsets[1:].clone(), {},
     r"offsets: expected I64 of \[8\], got I64 of \[7\]"),
    ("offsets", lambda offsets: offsets.flip(0), {}, r"offsets: expected numbers that rise from 0"),
    ("offsets", lambda offsets: offsets[[0, 3, 2, 1, 4, 5, 6, 7]], {},
     r"offsets: expected numbers that rise from 0"),
    ("offsets", lambda offsets: offsets + 1, {}, r"offsets: expected numbers that rise from 0"),
    ("offsets", lambda offsets: offsets * 2, {},
     r"boxes: expected F32 of \[14, 4\], got F32 of \[7, 4\]"),
    ("rows.nms.offsets", lambda offsets: offsets * 2, {},
     r"rows\.nms\.boxes: expected F32 of \[6, 4\]"),
    ("image_ids", lambda ids: ids * 0, {}, r"image_ids: expected every image once, got 0 again"),
    ("image_ids", lambda ids: ids[0].clone(), {},
     r"image_ids: expected I64 of \[0\], got I64 of \[\]"),
    ("extra.iou", lambda iou: iou[1:].clone(), {},
     r"extra\.iou: expected F32 of \[7\], got F32 of \[6\]"),
    ("extra.iou", lambda iou: iou.view(7, 1, 1), {}, r"extra\.iou: expected F32 of \[7, 1\]"),
    ("boxes", torch.clone, {"format": "postnms-1"},
     r"expected format 'postnms-candidates-1' or 'postnms-candidates-2', got 'postnms-1'"),
    ("boxes", torch.clone, {"format": "x" * 10**6}, r"expected format .*got 'x.{,80}$"),
    ("boxes", torch.clone, {"format": FORMAT_OF_ANY_IDS},
     r"image_ids: expected U8 of \[7\], got I64 of \[7\]"),
    ("rows.\x1b.scores", lambda nothing: torch.zeros(1), {},
     r"expected short, printable names of rows and columns, got '\\x1b'"),
    ("rows.boxes", lambda nothing: torch.zeros(1), {}, r"expected short, printable .*got ''"),
    ("extra.\n", lambda nothing: torch.zeros(7), {}, r"expected short, printable .*got '\\n'"),
    (f"extra.{'x' * 1000}", lambda nothing: torch.zeros(7), {}, r"expected short, printable "),
    ("offsets", lambda offsets: torch.tensor([0, 2**63 - 1, -(2**63), -1, 5, 6, 6, 7]), {},
     r"offsets: expected numbers that rise from 0"),
    ("boxes", torch.clone, {"about": "{"}, r"metadata 'about': malformed JSON"),
    ("boxes", torch.clone, {"about": "[]"}, r"metadata 'about': expected an object, got list"),
    ("boxes", torch.clone, {"about": '{"categories": []}'},
     r"metadata 'about': annotations: expected a name or null, got nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changed", "metadata", "message"), BROKEN)
def test_a_broken_file_is_named_when_opened(tmp_path, name, changed, metadata, message):
    path = tmp_path / "a.safetensors"
    write(path)
    change(path, name, changed, **metadata)
    with pytest.raises(UserError, match=r"a\.safetensors: " + message):
        open_candidates(path)


BROKEN_IDS = [
    (b"[1", r"image_ids: malformed JSON"),
    (b"\xff", r"image_ids: malformed JSON \(not UTF-8 at byte 0\)"),
    (b'{"a": 1}', r"image_ids: expected integers and strings, got {'a': 1}"),
    (b"[1, 2.5]", r"image_ids: expected integers and strings, got \[1, 2\.5\]"),
    (b"[1, true]", r"image_ids: expected integers and strings, got \[1, True\]"),
    (b"[1, null]", r"image_ids: expected integers and strings, got \[1, None\]"),
    (b'["a", 1, "a"]', r"image_ids: expected every image once, got 'a' again"),
    (b'["a", "b"]', r"offsets: expected I64 of \[3\], got I64 of \[8\]"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN_IDS)
def test_a_broken_list_of_ids_is_named(tmp_path, text, message):
    path = tmp_path / "a.safetensors"
    write(path)
    change(
        path,
        "image_ids",
        lambda _: torch.tensor(list(text), dtype=torch.uint8),
        format=FORMAT_OF_ANY_IDS,
    )
    with pytest.raises(UserError, match=r"a\.safetensors: " + message):
        open_candidates(path)


def test_values_that_detections_cannot_have_are_named_when_read(tmp_path):
    path = tmp_path / "a.safetensors"
    write(path)
    change(path, "rows.nms.boxes", lambda boxes: boxes.flip(1))
    file = open_candidates(path)
    with pytest.raises(
        UserError, match=r"a\.safetensors: row 'nms': Detections\.boxes: expected x1 <= x2"
    ):
        file.row("nms")


def test_foreign_cut_and_vanished_files(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match=r"a\.safetensors: no such file"):
        open_candidates(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(UserError, match=r"expected format 'postnms-candidates-1' or .*got None"):
        open_candidates(path)
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(UserError, match=r"got a folder; 'postnms dump' writes those of a run"):
        open_candidates(tmp_path)
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(UserError, match=r"r\.json: expected a file .* 'postnms import-candidates'"):
        open_candidates(tmp_path / "r.json")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        open_candidates(path)
    write(path)
    content = path.read_bytes()
    for length in (0, 7, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"a\.safetensors: not a readable safetensors file"):
            open_candidates(path)
    write(path)
    file = open_candidates(path)
    path.unlink()
    with pytest.raises(UserError, match=r"a\.safetensors: not a readable"):
        next(file.chunks())
