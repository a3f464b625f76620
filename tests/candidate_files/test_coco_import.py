"""Results of other detectors in COCO's format as files of candidates."""

import gzip
import json
import tracemalloc

import pytest
import torch

from postnms.candidate_files import coco_import
from postnms.candidate_files.coco_import import import_results
from postnms.candidate_files.reader import open_candidates
from postnms.data.formats.coco import read_truth
from postnms.errors import UserError
from postnms.evaluation.results import to_results
from postnms.files import json_stream
from postnms.files.json_files import JsonLimits
from postnms.structures import REFINED, Detections

TRUTH = {
    "images": [{"id": 70}, {"id": 1}, {"id": 8}],
    "categories": [{"id": 90, "name": "z"}, {"id": 3, "name": "y"}],
    "annotations": [{"id": 1, "image_id": 8, "category_id": 3, "bbox": [0, 0, 1, 1]}],
}


def entry(image=70, category=3, box=(1, 2, 3, 4.5), score=0.5, **more):
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score, **more}


GOOD = [
    entry(8),
    entry(70, 90, (0, 0, 0, 0), -1),
    entry(8, 90, score=1),
    entry(70),
    entry(8, 3, (-2, -2, 1, 1)),
]


@pytest.fixture
def convert(tmp_path):
    """Import results given as text, bytes or entries; returns the opened file."""
    (tmp_path / "val.json").write_text(json.dumps(TRUTH))

    def call(content, name="r.json", **options):
        if not isinstance(content, str | bytes):
            content = json.dumps(content)
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        truth = read_truth(tmp_path / "val.json")
        out = tmp_path / "out" / f"{name}.safetensors"
        counts = import_results(
            tmp_path / name, truth, "val.json", out, {"of": "a detector"}, **options
        )
        file = open_candidates(out)
        assert counts == (len(file), file.num_candidates)
        return file

    return call


def only_chunk(file):
    (_, candidates), *more = file.chunks()
    assert not more
    return candidates


def test_entries_become_candidates_in_the_order_of_the_truth(convert):
    finished = []
    file = convert(GOOD, done=finished.append)
    candidates = only_chunk(file)
    assert finished == [3]
    assert file.image_ids == (70, 1, 8)
    assert [category.id for category in file.categories] == [3, 90]
    assert (file.annotations, file.provenance) == ("val.json", {"of": "a detector"})
    assert candidates.image.tolist() == [0, 0, 2, 2, 2]
    assert candidates.labels.tolist() == [1, 0, 0, 1, 0]
    assert candidates.scores.tolist() == [-1, 0.5, 0.5, 1, 0.5]
    assert candidates.source.tolist() == [0, 1, 0, 1, 2]
    assert candidates.boxes[[0, 1, 4]].tolist() == [[0, 0, 0, 0], [1, 2, 4, 6.5], [-2, -2, -1, -1]]
    assert candidates.extra == {}


def test_a_field_that_nobody_knows_is_a_mistake(convert):
    masks = [entry(8, segmentation=[], area=3.5, id=7, iscrowd=0, keypoints=[])]
    assert only_chunk(convert(masks)).extra == {}
    named = [entry(8, category_name="cat", file_name="8.jpg"), entry(8)]  # as other tools write it
    assert len(only_chunk(convert(named, "named.json")).scores) == 2
    message = r"r.json: \[1\].iuo: no such field of a result \(did you mean 'iou'\?\)"
    with pytest.raises(UserError, match=message):
        convert([entry(8, iou=0.5), entry(8, iuo=0.5)])


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_images_are_written_in_batches(convert, monkeypatch, at_once):
    wanted = only_chunk(convert(GOOD))
    monkeypatch.setattr(coco_import, "_IMAGES_AT_ONCE", at_once)
    candidates = only_chunk(convert(GOOD, "again.json"))
    for name in ("boxes", "scores", "labels", "image", "source"):
        assert torch.equal(getattr(candidates, name), getattr(wanted, name))


def test_optional_fields_become_columns(convert):
    fields = {
        "iou": 0.25,
        "density": 2,
        "edge_log_variance": [1, 2.5, 3, 4],
        "model": 1,
        "source": 9,
        "area": [None],
    }
    file = convert([entry(8, **fields), entry(70, **(fields | {"source": 2**31 - 1, "iou": -1}))])
    candidates = only_chunk(file)
    assert candidates.source.tolist() == [2**31 - 1, 9]
    assert candidates.extra.keys() == {"iou", "density", "edge_log_variance", "model"}
    assert candidates.extra["iou"].tolist() == [-1, 0.25]
    assert candidates.extra["edge_log_variance"].tolist() == [[1, 2.5, 3, 4]] * 2


def test_null_counts_as_missing_and_whole_numbers_may_be_floats(convert):
    nothing = {"source": None, "iou": None, "density": None, "area": None}
    given = [{**e, **nothing, "image_id": float(e["image_id"])} for e in GOOD]
    given = [{**e, "category_id": float(e["category_id"])} for e in given]
    assert convert(given, "a.json").path.read_bytes() == convert(GOOD, "b.json").path.read_bytes()
    sources = only_chunk(convert([entry(8, source=3.0), entry(8, source=2)])).source
    assert sources.tolist() == [3, 2]


def test_an_entry_that_is_too_long_is_refused_and_the_limit_can_be_raised(convert):
    long = [entry(8, segmentation=[[0] * 1000])]
    with pytest.raises(UserError, match="expected an entry of at most 100 characters"):
        convert(long, limits=JsonLimits(entry=100))
    assert convert(long, limits=JsonLimits(entry=10_000)).num_candidates == 1


def test_an_imported_column_of_refined_boxes_is_read(convert):
    boxes = [[0, 0, 9, 9.5], [5, 5, 5, 5]]
    file = convert([entry(8, refined_boxes=boxes[0]), entry(70, refined_boxes=boxes[1])])
    assert file.extra == (REFINED,)
    assert only_chunk(file).extra[REFINED].tolist() == boxes[::-1]
    with pytest.raises(UserError, match=r"\[0\]\.refined_boxes: expected 4 finite numbers, got 3"):
        convert([entry(8, refined_boxes=3)])


def test_what_the_evaluation_writes_comes_back(convert):
    corners = torch.tensor([[0.5, 1.25, 7, 9], [3, 3, 3, 3], [100.125, 2, 640, 480]])
    scores = torch.tensor([0.9, 0.1234567, 1e-7])
    labels, image = torch.tensor([1, 0, 1]), torch.tensor([0, 0, 2])
    results = to_results(
        Detections(corners, scores, labels, image, labels, 3), [70, 1, 8], torch.ones(3, 2), [3, 90]
    )
    candidates = only_chunk(convert(results))
    assert torch.equal(candidates.boxes, corners)
    assert torch.equal(candidates.scores, scores)
    assert torch.equal(candidates.labels, labels)
    assert torch.equal(candidates.image, image)


@pytest.mark.parametrize("content", ["[]", " [ \n]\t", "\ufeff[]"])
def test_no_results_are_images_without_candidates(convert, content):
    file = convert(content)
    assert (len(file), file.num_candidates, file.extra) == (3, 0, ())


def test_gzip_gives_the_same_file_whatever_it_is_called(convert, tmp_path):
    plain = convert(GOOD, "a.gz").path.read_bytes()
    packed = convert(gzip.compress(json.dumps(GOOD).encode(), mtime=0), "b.json").path.read_bytes()
    assert plain == packed


def test_entries_of_an_image_keep_their_order(convert):
    """There are more than NumPy sorts by insertion, which is stable whatever is asked for."""
    images = torch.randint(0, 3, (500,), generator=torch.Generator().manual_seed(0)).tolist()
    candidates = only_chunk(
        convert([entry((70, 1, 8)[image], score=row) for row, image in enumerate(images)])
    )
    assert candidates.image.tolist() == sorted(images)
    for image in range(3):
        scores = candidates.scores[candidates.image == image].tolist()
        assert scores == [row for row, of in enumerate(images) if of == image]


def test_millions_of_entries_would_not_lie_in_memory(convert, monkeypatch):
    monkeypatch.setattr(json_stream, "_PIECE", 1000)
    few = json.dumps(GOOD)[1:-1]
    content = "[" + ",".join([few] * 2000) + "]"
    convert(GOOD, "first.json")
    tracemalloc.start()
    file = convert(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert file.num_candidates == 10_000
    assert peak < 250 * 10_000


BAD = [
    ("", r"r\.json: expected a list of results, got an empty file"),
    (json.dumps(GOOD)[:-1], r"malformed JSON \(expected ',' or '\]'"),
    (gzip.compress(json.dumps(GOOD).encode(), mtime=0)[:-20],
     r"r\.json: could not be read \(Compressed file ended"),
    ([entry(), 3], r"r\.json: \[1\]: expected an object, got int"),
    ([entry(), entry(9)], r"r\.json: \[1\]\.image_id: expected the id of an image, got 9"),
    ([entry(True)], r"\[0\]\.image_id: expected the id of an image, got True"),
    ([entry(70.5)], r"\[0\]\.image_id: .*got 70\.5"),
    ([entry("70")], r"\[0\]\.image_id: expected the id of an image, got '70'"),
    ([entry("x" * 10**6)], r"\[0\]\.image_id: expected the id of an image, got '.{,80}$"),
    ([entry(category=4)], r"\[0\]\.category_id: expected one of \[3, 90\], got 4"),
    ([entry(category=[3])], r"\[0\]\.category_id: expected one of \[3, 90\], got \[3\]"),
    ([{"image_id": 70, "category_id": 3, "score": 1}], r"\[0\]\.bbox: expected \[x, y, .*got None"),
    ([{"image_id": 70, "category_id": 3, "bbox": [0, 0, 1, 1]}],
     r"\[0\]\.score: expected a finite number, got None"),
    ([{"category_id": 3}], r"\[0\]\.image_id: .*got None"),
    ([{"image_id": 70}], r"\[0\]\.category_id: .*got None"),
    ([*[entry()] * 17, entry(box=[1, 2, -3, 4])],
     r"r\.json: \[17\]\.bbox: expected \[x, y, width >= 0, height >= 0\], four finite numbers of "
     r"at most 1e\+15, got \[1, 2, -3, 4\]"),
    ([entry(box=[1, 2, 3])], r"\[0\]\.bbox: .*got \[1, 2, 3\]"),
    ([entry(box=[1, 2, True, 4])], r"\[0\]\.bbox: .*got \[1, 2, True, 4\]"),
    ([entry(box=[1, 2, 3, float("nan")])], r"\[0\]\.bbox: .*nan"),
    ([entry(box=[10**400, 2, 3, 4])], r"\[0\]\.bbox: .*finite"),
    ([entry(box=[3e38, 0, 3e38, 1])],
     r"\[0\]\.bbox: .*at most 1e\+15, got \[3e\+38, 0, 3e\+38, 1\]"),
    ([entry(box=[1e308, 0, 1e308, 1])], r"\[0\]\.bbox: .*at most 1e\+15"),
    ([entry(score=float("inf"))], r"\[0\]\.score: expected a finite number, got inf"),
    ([entry(score=True)], r"\[0\]\.score: expected a finite number, got True"),
    ([entry(score="1")], r"\[0\]\.score: expected a finite number, got '1'"),
    ([entry(score=-1e39)], r"\[0\]\.score: expected what float32 can hold, got \[-1e\+39\]"),
    ([entry(source=-1)], r"\[0\]\.source: expected an integer from 0 to 2147483647, got -1"),
    ([entry(source=2**31)], r"\[0\]\.source: .*got 2147483648"),
    ([entry(source=True)], r"\[0\]\.source: .*got True"),
    ([entry(source=1.5)], r"\[0\]\.source: .*got 1\.5"),
    ([entry(source=1), entry(source=None)],
     r"r\.json: \[1\]\.source: expected as \[0\] has it, got nothing"),
    ([entry(**{"\x1b[31m": 1})], r"r\.json: \[0\]\.'\\x1b\[31m': no such field of a result"),
    ([entry(iou=float("nan"))], r"\[0\]\.iou: expected a finite number, got nan"),
    ([entry(model=[1])], r"\[0\]\.model: expected a finite number, got \[1\]"),
    ([entry(edge_log_variance=[1, 2, 3])],
     r"\[0\]\.edge_log_variance: expected 4 finite numbers, got \[1, 2, 3\]"),
    ([entry(edge_log_variance=1)], r"\[0\]\.edge_log_variance: expected 4 finite numbers, got 1"),
    ([entry(iou=1), entry(iou=1), entry()],
     r"r\.json: \[2\]\.iou: expected as \[0\] has it, got nothing"),
    ([entry(), entry(), entry(iou=1)],
     r"r\.json: \[0\]\.iou: expected as \[2\] has it, got nothing"),
    ([entry(source=1), entry()], r"r\.json: \[1\]\.source: expected as \[0\] has it, got nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD)
def test_bad_results_name_file_and_field_and_write_nothing(convert, tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        convert(content)
    assert not (tmp_path / "out").exists()


def test_missing_results(convert, tmp_path):
    convert([])
    truth = read_truth(tmp_path / "val.json")
    with pytest.raises(UserError, match=r"none\.json: no such file of results"):
        import_results(tmp_path / "none.json", truth, "val.json", tmp_path / "out", {})
