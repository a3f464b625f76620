"""A file of candidates and the truth of the same images, opened together."""

import pytest

from postnms.analysis.study import Study, open_study
from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.writer import CandidateWriter
from postnms.errors import UserError
from postnms.files.atomic import hash_of
from tests.support.studies import write_truth


def test_a_study_is_opened_from_a_file_or_a_folder_of_annotations(study, tmp_path):
    for data in (tmp_path, tmp_path / "instances_val.json"):
        found = open_study(study.candidates.path, data)
        assert found.truth == study.truth
        assert found.candidates.image_ids == study.candidates.image_ids
        assert found.data == data


def test_what_is_missing_or_does_not_belong_together_is_named(study, tmp_path):
    with pytest.raises(UserError, match=r"none\.safetensors: no such file"):
        open_study(tmp_path / "none.safetensors", tmp_path)
    with pytest.raises(UserError, match=r"^data: .*c.safetensors needs the annotations"):
        open_study(study.candidates.path)
    write_truth(tmp_path / "other.json", 6)
    with pytest.raises(UserError, match="expected the images of the annotations"):
        open_study(study.candidates.path, tmp_path / "other.json")


def test_annotations_that_have_changed_since_are_noticed(study, tmp_path):
    data, path = study.data, tmp_path / "hashed.safetensors"
    about = {"annotations_sha256": hash_of(data)}
    with CandidateWriter(path, study.truth.categories, data.name, about) as writer:
        for ids, candidates in study.candidates.chunks():
            writer.add(candidates, ids)
    for folder_or_file in (data, tmp_path):
        assert not open_study(path, folder_or_file).has_other_annotations
    write_truth(data, 5, seed=1)
    for folder_or_file in (data, tmp_path):
        assert open_study(path, folder_or_file).has_other_annotations
    # Nothing is known of the annotations of the built-in scenes, or where no hash was written.
    assert not Study(open_candidates(path), study.truth).has_other_annotations
    assert not open_study(study.candidates.path, data).has_other_annotations
