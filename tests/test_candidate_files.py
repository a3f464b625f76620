import json
import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from postnms.candidate_files.columns import FORMAT
from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.writer import CandidateWriter
from postnms.data.dataset import Category
from postnms.errors import UserError
from postnms.structures import Candidates, Detections, take

CATEGORIES = (Category(3, "y"), Category(17, "é"), Category(90, "z"))
BATCHES = [[2, 0, 1], [0], [], [0, 4, 0]]
"""Candidates of every image."""
NAMES = ("boxes", "scores", "labels", "source")


def columns(counts, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = sum(counts)
    corners = torch.randint(0, 50, (rows, 2), generator=generator).float()
    return {
        "boxes": torch.cat([corners, corners + torch.rand(rows, 2, generator=generator)], 1),
        "scores": torch.rand(rows, generator=generator),
        "labels": torch.randint(0, 3, (rows,), generator=generator),
        "image": torch.repeat_interleave(
            torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64)
        ),
        "source": torch.randint(0, 2**31 - 1, (rows,), generator=generator),
        "num_images": len(counts),
    }


def candidates(counts=(2, 1), seed=0, **changes):
    extra = {"iou": torch.rand(sum(counts)), "edges": torch.rand(sum(counts), 4)}
    return Candidates(**(columns(counts, seed) | {"extra": extra} | changes))


def detections(counts=(1, 1), seed=0):
    return Detections(**columns(counts, seed))


def writer(path, **changes):
    arguments = {
        "categories": CATEGORIES,
        "annotations": "val.json",
        "provenance": {"commit": "abc", "seed": 3},
    }
    return CandidateWriter(path, **(arguments | changes))


def write(path, batches=BATCHES):
    """Write random candidates and two rows; returns what was written as one whole, and the rows."""
    written, rows, first = [], [], 0
    with writer(path) as file:
        for seed, counts in enumerate(batches):
            batch, row = (
                candidates(counts, seed),
                detections([min(count, 1) for count in counts], seed + 100),
            )
            ids = [1000 - number for number in range(first, first + len(counts))]
            batch = take(
                batch,
                torch.randperm(len(batch.scores), generator=torch.Generator().manual_seed(seed)),
            )
            file.add(
                batch,
                ids,
                {"post_nms": row, "nms": row},
                {"nms": 2.0 * len(counts), "post_nms": 1.0},
            )
            written.append((take(batch, torch.argsort(batch.image, stable=True)), first))
            rows.append((row, first))
            first += len(counts)
    return whole(written, first), whole(rows, first)


def whole(parts, num_images):
    """Structures of images first, first + 1, ... as one."""
    kind = type(parts[0][0])
    joined = {name: torch.cat([getattr(part, name) for part, _ in parts]) for name in NAMES}
    joined["image"] = torch.cat([part.image + first for part, first in parts])
    if kind is Candidates:
        joined["extra"] = {
            name: torch.cat([part.extra[name] for part, _ in parts]) for name in parts[0][0].extra
        }
    return kind(**joined, num_images=num_images)


def assert_equal(mine, wanted):
    assert mine.num_images == wanted.num_images
    for name in (*NAMES, "image"):
        assert torch.equal(getattr(mine, name), getattr(wanted, name)), name
    if isinstance(wanted, Candidates):
        assert mine.extra.keys() == wanted.extra.keys()
        assert all(torch.equal(mine.extra[name], wanted.extra[name]) for name in wanted.extra)


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


def test_safetensors_reads_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    written, _ = write(path)
    tensors = load_file(path)
    assert torch.equal(tensors["boxes"], written.boxes)
    assert tensors["labels"].dtype == tensors["rows.nms.source"].dtype == torch.int32
    assert tensors["offsets"].tolist() == [0, 2, 2, 3, 3, 3, 7, 7]
    assert tensors["rows.nms.offsets"].tolist() == [0, 1, 1, 2, 2, 2, 3, 3]
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["format"] == FORMAT
        assert json.loads(file.metadata()["about"])["categories"][1] == {"id": 17, "name": "é"}


@pytest.mark.parametrize("batches", [[], [0], [1]])
def test_a_file_without_candidates_or_images(tmp_path, batches):
    with writer(tmp_path / "a.safetensors", annotations=None) as file:
        for number, images in enumerate(batches):
            file.add(candidates([0] * images, extra={}), [number] * images)
    file = open_candidates(tmp_path / "a.safetensors")
    assert (len(file), file.num_candidates, file.annotations) == (sum(batches), 0, None)
    assert (file.rows, file.extra, file.milliseconds) == ((), (), {})
    assert [chunk.num_images for _, chunk in file.chunks()] == [1] * sum(batches)
    with pytest.raises(UserError, match=r"a\.safetensors: no row 'nms' \(it has none\)"):
        file.row("nms")


def test_a_row_that_is_not_there_and_a_chunk_of_nothing(tmp_path):
    write(tmp_path / "a.safetensors")
    file = open_candidates(tmp_path / "a.safetensors")
    with pytest.raises(
        UserError, match=r"a\.safetensors: no row 'post_nmz' \(did you mean 'post_nms'\?\)"
    ):
        file.row("post_nmz")
    with pytest.raises(ValueError, match=r"chunks\.images: expected at least 1, got 0"):
        next(file.chunks(0))


BAD_ADDS = [
    ({"image_ids": [5]}, r"num_images: expected 1 ids, got 2"),
    ({"image_ids": [5, 5]}, r"add\.image_ids: expected every image once, got 5 again"),
    ({"image_ids": [5, 1]}, r"add\.image_ids: expected every image once, got 1 again"),
    ({"candidates": candidates(extra={})}, r"extra\.edges: expected F32 rows of shape \(4,\) .*got nothing"),
    ({"candidates": candidates(extra={"iou": torch.ones(3), "edges": torch.ones(3, 2)})}, r"extra\.edges: .*\(2,\)"),
    ({"candidates": candidates(labels=torch.tensor([0, 3, 1]))}, r"labels: expected 0 to 2, got 3"),
    ({"candidates": candidates(source=torch.tensor([0, 2**31, 1]))}, r"source: .*int32 holds, got 2147483648"),
    ({"rows": {}}, r"rows\.nms\.boxes: expected F32 rows of shape \(4,\) .*got nothing"),
    ({"rows": {"nms": detections(), "more": detections()}}, r"rows\.more\.boxes: expected nothing .*got F32"),
    ({"rows": {"nms": detections([1])}}, r"rows\.nms\.num_images: expected 2 ids, got 1"),
    ({"milliseconds": {}}, r"add\.milliseconds: expected \['nms'\], got \[\]"),
    ({"milliseconds": {"nms": float("nan")}}, r"add\.milliseconds\['nms'\]: expected a finite number >= 0, got nan"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD_ADDS)
def test_a_batch_that_does_not_fit_is_named_and_changes_nothing(tmp_path, change, message):
    good = {"candidates": candidates(), "rows": {"nms": detections()}, "milliseconds": {"nms": 4.0}}
    with writer(tmp_path / "a.safetensors") as file:
        file.add(**good, image_ids=[1, 2])
        with pytest.raises(ValueError, match=message):
            file.add(**(good | {"image_ids": [5, 6]} | change))
        file.add(**good, image_ids=[5, 6])
    file = open_candidates(tmp_path / "a.safetensors")
    assert (file.image_ids, file.num_candidates, file.milliseconds) == (
        (1, 2, 5, 6),
        6,
        {"nms": 2.0},
    )


def test_provenance_must_be_json(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        writer(tmp_path / "a.safetensors", provenance={"x": float("nan")})


def test_a_failure_on_the_way_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_text("old")

    def fail():
        with writer(path) as file:
            file.add(candidates(), [1, 2])
            assert list(tmp_path.iterdir()) == [path]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_writer_holds_no_more_than_a_batch(tmp_path):
    batch = candidates([500, 500])
    size = 1000 * (16 + 4 + 4 + 4 + 4 + 16)
    with writer(tmp_path / "a.safetensors") as file:
        file.add(batch, [0, 1])
        tracemalloc.start()
        for number in range(1, 100):
            file.add(batch, [2 * number, 2 * number + 1])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (tmp_path / "a.safetensors").stat().st_size > 100 * size
    assert peak < 4 * size


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


def change(path, name, change, **metadata):
    """Write a file again with one tensor changed, or without it if ``change`` gives None."""
    with safe_open(path, framework="pt") as file:
        about = file.metadata() | metadata
    tensors = {key: tensor.clone() for key, tensor in load_file(path).items()}
    changed = change(tensors.pop(name, None))
    save_file(tensors if changed is None else tensors | {name: changed}, path, about)


BROKEN = [
    ("boxes", lambda boxes: boxes[1:].clone(), {}, r"boxes: expected F32 of \[7, 4\], got F32 of \[6, 4\]"),
    ("boxes", lambda boxes: boxes.double(), {}, r"boxes: expected F32 of \[7, 4\], got F64"),
    ("labels", lambda labels: labels + 1, {}, r"labels: expected 0 to 2, got 1 to 3"),
    ("labels", lambda labels: labels - 1, {}, r"labels: expected 0 to 2, got -1"),
    ("rows.nms.labels", lambda labels: labels + 3, {}, r"rows\.nms\.labels: expected 0 to 2"),
    ("rows.nms.source", lambda source: None, {}, r"rows\.nms\.source: no such tensor"),
    ("rows.more.scores", lambda nothing: torch.zeros(1), {}, r"rows\.more\.offsets: no such tensor"),
    ("offsets", lambda offsets: offsets[1:].clone(), {}, r"offsets: expected I64 of \[8\], got I64 of \[7\]"),
    ("offsets", lambda offsets: offsets.flip(0), {}, r"offsets: expected numbers that rise from 0"),
    ("offsets", lambda offsets: offsets[[0, 3, 2, 1, 4, 5, 6, 7]], {}, r"offsets: expected numbers that rise from 0"),
    ("offsets", lambda offsets: offsets + 1, {}, r"offsets: expected numbers that rise from 0"),
    ("offsets", lambda offsets: offsets * 2, {}, r"boxes: expected F32 of \[14, 4\], got F32 of \[7, 4\]"),
    ("rows.nms.offsets", lambda offsets: offsets * 2, {}, r"rows\.nms\.boxes: expected F32 of \[6, 4\]"),
    ("image_ids", lambda ids: ids * 0, {}, r"image_ids: expected every image once, got 0 again"),
    ("image_ids", lambda ids: ids[0].clone(), {}, r"image_ids: expected I64 of \[0\], got I64 of \[\]"),
    ("extra.iou", lambda iou: iou[1:].clone(), {}, r"extra\.iou: expected F32 of \[7\], got F32 of \[6\]"),
    ("extra.iou", lambda iou: iou.view(7, 1, 1), {}, r"extra\.iou: expected F32 of \[7, 1\]"),
    ("boxes", torch.clone, {"format": "postnms-1"}, r"expected format 'postnms-candidates-1', got 'postnms-1'"),
    ("boxes", torch.clone, {"about": "{"}, r"metadata 'about': not what a CandidateWriter writes"),
    ("boxes", torch.clone, {"about": "[]"}, r"metadata 'about': not what a CandidateWriter writes"),
    ("boxes", torch.clone, {"about": '{"categories": []}'}, r"metadata 'about': .*KeyError\('annotations'\)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changed", "metadata", "message"), BROKEN)
def test_a_broken_file_is_named_when_opened(tmp_path, name, changed, metadata, message):
    path = tmp_path / "a.safetensors"
    write(path)
    change(path, name, changed, **metadata)
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
    with pytest.raises(UserError, match="expected format 'postnms-candidates-1', got None"):
        open_candidates(path)
    torch.save({"a": torch.ones(1)}, path)
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
