"""The new file of candidates: all of the old one, and one row more."""

from dataclasses import replace

import pytest
import torch

from postnms.candidate_files import CandidateFile, CandidateWriter, open_candidates, open_images
from postnms.errors import UserError
from postnms.rescoring import rescore
from postnms.rescoring import rescored as module
from postnms.structures import Candidates
from postnms.suppression import get_suppressor
from tests.support.candidate_files import assert_equal
from tests.support.rescoring import found, sizes, tiny_rescorer, write_dump, write_truth


@pytest.fixture
def old(tmp_path):
    """A dump of five images with two rows, one with a time."""
    write_truth(tmp_path / "instances_train.json", [[]] * 5)
    path = tmp_path / "old.safetensors"
    empty = write_dump(path, [])
    facts = {"split": "train", "rescored": [{"row": "mine"}]}
    with CandidateWriter(path, empty.categories, "instances_train.json", facts) as writer:
        for first, counts in ((1, [6, 0, 3]), (4, [2, 8])):
            part = found(counts, seed=first)
            rows = {name: get_suppressor(name)(part) for name in ("nms", "soft_nms_linear")}
            ids = range(first, first + len(counts))
            writer.add(part, ids, rows, {"nms": 0.7 * len(counts)})
    return open_candidates(path)


@pytest.mark.parametrize("at_once", [1, 2, 16])
@pytest.mark.parametrize("kind", ["sce", "contextual"])
def test_the_new_file_has_all_of_the_old_one(old, tmp_path, monkeypatch, kind, at_once):
    monkeypatch.setattr(module, "IMAGES_AT_ONCE", at_once)
    truth = open_images(old, tmp_path)
    out = tmp_path / "new.safetensors"
    steps = []
    rescorer = replace(tiny_rescorer(kind), provenance={"candidates": {"split": "train"}})
    config = rescorer.config.model_dump(mode="json")
    spent = rescore(rescorer, old, truth, out, provenance={"seed": 5}, done=steps.append)
    assert sum(steps) == 5
    new = open_candidates(out)
    for name in ("image_ids", "categories", "annotations", "extra"):
        assert getattr(new, name) == getattr(old, name)
    assert new.rows == tuple(sorted((*old.rows, kind)))
    for before, after in zip(old.chunks(2), new.chunks(2), strict=True):
        assert before[0] == after[0]
        assert_equal(after[1], before[1])
    for name in old.rows:
        assert_equal(new.row(name), old.row(name))
    assert new.milliseconds == pytest.approx({"nms": 0.7, kind: spent})
    made = {"row": kind, "kind": kind, "config": config, "learned_from": {"split": "train"}}
    entries = [{"row": "mine"}, {**made, "seed": 5}]
    assert new.provenance == old.provenance | {"rescored": entries}
    row = new.row(kind)
    whole = old.part(0, 5)[0]
    wanted = tiny_rescorer(kind)(whole, sizes(5))
    assert row.image.tolist() == wanted.image.tolist()
    torch.testing.assert_close(row.scores, wanted.scores, atol=1e-6, rtol=1e-5)


def test_memory_holds_a_few_images(old, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IMAGES_AT_ONCE", 2)
    parts = []
    read = CandidateFile.part
    monkeypatch.setattr(CandidateFile, "chunks", None)
    monkeypatch.setattr(CandidateFile, "row", None)
    monkeypatch.setattr(
        CandidateFile, "part", lambda file, a, b: parts.append(b - a) or read(file, a, b)
    )
    rescore(tiny_rescorer(), old, open_images(old, tmp_path), tmp_path / "new.safetensors")
    assert parts == [2, 2, 1]


def test_a_file_may_take_the_place_of_the_old_one(old, tmp_path):
    truth = open_images(old, tmp_path)
    rescore(tiny_rescorer(), old, truth, old.path)
    rescore(tiny_rescorer(), open_candidates(old.path), truth, old.path, name="another")
    new = open_candidates(old.path)
    assert new.rows == ("another", "contextual", "nms", "soft_nms_linear")
    assert [entry["row"] for entry in new.provenance["rescored"][1:]] == ["contextual", "another"]
    assert torch.equal(new.row("another").scores, new.row("contextual").scores)


@pytest.mark.parametrize("kind", ["sce", "contextual"])
@pytest.mark.parametrize("counts", [None, [0, 0]])
def test_nothing_to_re_score_gives_an_empty_row(tmp_path, kind, counts):
    images = 0 if counts is None else len(counts)
    write_truth(tmp_path / "instances_train.json", [[]] * images)
    nothing = found([] if counts is None else counts)
    file = write_dump(tmp_path / "old.safetensors", [nothing])
    out = tmp_path / "new.safetensors"
    rescore(tiny_rescorer(kind), file, open_images(file, tmp_path), out)
    assert open_candidates(out).row(kind).scores.shape == (0,)


def test_a_test_split_without_annotations_is_re_scored(tmp_path):
    write_truth(tmp_path / "instances_train.json", [[]])
    path = tmp_path / "instances_train.json"
    path.write_text(path.read_text().replace('"annotations"', '"none"'))
    file = write_dump(tmp_path / "old.safetensors", [found([3])])
    truth = open_images(file, tmp_path)
    assert not truth.annotated
    rescore(tiny_rescorer(), file, truth, tmp_path / "new.safetensors")
    assert open_candidates(tmp_path / "new.safetensors").rows == ("contextual",)


def test_bad_input_is_refused_and_nothing_is_written(old, tmp_path):
    truth = open_images(old, tmp_path)
    out = tmp_path / "new.safetensors"

    def refusal(file=old, rescorer=None, **options):
        with pytest.raises(UserError) as error:
            rescore(rescorer or tiny_rescorer(), file, truth, out, **options)
        assert not out.exists()
        return str(error.value).replace(str(file.path), "DUMP")

    assert refusal(name="nms") == "name: DUMP has a row 'nms' already; give the new row another one"
    assert refusal(name="a\nb") == "name: expected a short, printable name, got 'a\\nb'"
    assert "classes: expected" in refusal(rescorer=tiny_rescorer(classes=("cell", "dots")))
    scores = found([4, 0, 0, 0, 0]).scores - 2  # Logits: Soft-NMS needs scores from 0 to 1.
    logits = found([4, 0, 0, 0, 0], scores=scores)
    assert isinstance(logits, Candidates)
    file = write_dump(tmp_path / "l.safetensors", [logits])
    message = refusal(file, tiny_rescorer(suppressor="cp_cluster"))
    assert message.startswith("DUMP: Candidates.scores: expected values in [0, 1]")
