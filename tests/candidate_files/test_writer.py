"""Writing files of candidates: what lies in the file, and batches that do not fit."""

import json
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from postnms.candidate_files.columns import FORMAT, FORMAT_OF_ANY_IDS
from postnms.candidate_files.reader import open_candidates
from postnms.data.dataset import Category
from postnms.errors import UserError
from tests.support.candidate_files import candidates, detections, write, writer


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


BAD_ADDS = [
    ({"image_ids": [5]}, r"num_images: expected 1 ids, got 2"),
    ({"image_ids": [5, 5]}, r"add\.image_ids: expected every image once, got 5 again"),
    ({"image_ids": [5, 2.0]}, r"add\.image_ids: expected integers or strings, got 2\.0"),
    ({"image_ids": [5, None]}, r"add\.image_ids: expected integers or strings, got None"),
    ({"rows": {"nms\n": detections()}}, r"expected short, printable names .*got 'nms\\n'"),
    ({"candidates": candidates(extra={"": torch.ones(3)})}, r"expected short, .*got ''"),
    ({"image_ids": [5, 1]}, r"add\.image_ids: expected every image once, got 1 again"),
    ({"candidates": candidates(extra={})},
     r"extra\.edges: expected F32 rows of shape \(4,\) .*got nothing"),
    ({"candidates": candidates(extra={"iou": torch.ones(3), "edges": torch.ones(3, 2)})},
     r"extra\.edges: .*\(2,\)"),
    ({"candidates": candidates(labels=torch.tensor([0, 3, 1]))}, r"labels: expected 0 to 2, got 3"),
    ({"candidates": candidates(source=torch.tensor([0, 2**31, 1]))},
     r"source: expected 0 to 2147483647, got 2147483648"),
    ({"candidates": candidates(source=torch.tensor([0, -1, 1]))},
     r"source: expected 0 to 2147483647, got -1"),
    ({"rows": {}}, r"rows\.nms\.boxes: expected F32 rows of shape \(4,\) .*got nothing"),
    ({"rows": {"nms": detections(), "more": detections()}},
     r"rows\.more\.boxes: expected nothing .*got F32"),
    ({"rows": {"nms": detections([1])}}, r"rows\.nms\.num_images: expected 2 ids, got 1"),
    ({"milliseconds": {}}, r"add\.milliseconds: expected \['nms'\], got \[\]"),
    ({"milliseconds": {"nms": float("nan")}},
     r"add\.milliseconds\['nms'\]: expected a finite number >= 0, got nan"),
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


def test_what_could_not_be_read_again_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="CandidateWriter: annotations: expected a name or null"):
        writer(tmp_path / "a.safetensors", annotations=3)
    twice = [Category(1, "a"), Category(1, "b")]
    with pytest.raises(ValueError, match=r"CandidateWriter: categories\[1\]\.id: 1 is already"):
        writer(tmp_path / "a.safetensors", categories=twice)


MANY_IDS = [
    ([[2, 1], [-5]], FORMAT),
    ([[2**63 - 1, -(2**63)], [0]], FORMAT),
    ([np.array([3, 2**53 + 1]), torch.tensor([2**53])], FORMAT),
    ([[2**63, 0], [1]], FORMAT_OF_ANY_IDS),
    ([["a/b.jpg", "é\x1b\ud800"], [""]], FORMAT_OF_ANY_IDS),
    ([[1, 2], ["1"]], FORMAT_OF_ANY_IDS),
]


@pytest.mark.parametrize("number", range(len(MANY_IDS)))
def test_ids_come_back_as_they_were(tmp_path, number):
    batches, form = MANY_IDS[number]
    path = tmp_path / "a.safetensors"
    wanted = tuple(
        value if isinstance(value, str) else int(value) for ids in batches for value in ids
    )
    given = [candidates([1] * len(ids), seed) for seed, ids in enumerate(batches)]
    with writer(path) as file:
        for ids, batch in zip(batches, given, strict=True):
            file.add(batch, ids)
    opened = open_candidates(path)
    assert opened.image_ids == wanted
    assert [type(i) for i in opened.image_ids] == [type(i) for i in wanted]
    ((ids, whole),) = opened.chunks()
    assert (ids, whole.boxes.tolist()) == (wanted, torch.cat([b.boxes for b in given]).tolist())
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["format"] == form


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
