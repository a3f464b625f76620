"""A split that one process puts into a file is the same split in another one."""

import json

import pytest

from postnms.data.digest import digest_of
from postnms.data.formats.coco import read_coco
from postnms.data.shared import put, read_once, take
from postnms.errors import UserError
from tests.data.test_digest import CONTENT
from tests.support.processes import finish, launched


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps({**CONTENT, "info": {"year": 2017}}))
    return read_coco(path, tmp_path)


def test_a_split_comes_back_on_the_pages_of_the_file(dataset, tmp_path):
    file = tmp_path / "columns"
    found = take(put(dataset, file))
    file.unlink()
    assert found.truth == dataset.truth
    assert found.truth.content["info"] == {"year": 2017}
    assert found.truth.objects.image_ids is found.truth.images.columns.ids
    assert digest_of(found, found) == digest_of(dataset, dataset)
    for name in ("boxes", "labels", "crowd", "sizes"):
        assert not getattr(found.records, name).flags.writeable
    record = found.records[0]
    assert record.boxes.tolist() == dataset.records[0].boxes.tolist()
    assert record.path == dataset.records[0].path
    record.boxes[:] = 0
    assert found.records[0].boxes.any()


def test_one_process_alone_reads_for_itself(dataset):
    assert read_once(lambda: dataset) is dataset

    def broken():
        raise UserError("t.json: broken")

    with pytest.raises(UserError, match=r"^t\.json: broken$"):
        read_once(broken)


@pytest.mark.slow
def test_one_of_two_processes_reads_and_both_have_the_split(dataset, tmp_path):
    """Also an error of the one that reads is an error of both."""
    finish(launched(1, "tests.support.shared_split", tmp_path))
    said = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [part["reads"] for part in said] == [1, 0]
    assert [part["digest"] for part in said] == [digest_of(dataset, dataset)] * 2
    assert [part["error"] for part in said] == ["data: broken"] * 2
    assert [part["left"] for part in said] == [[], []]
