"""The truth that a file of candidates is measured against."""

import json
from pathlib import Path

import pytest

from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.truth import open_images, open_truth
from postnms.candidate_files.writer import CandidateWriter
from postnms.data.config import DataConfig
from postnms.data.dataset import Category
from postnms.data.formats.annotated import name_of
from postnms.data.scenes.generator import CATEGORIES, ScenesConfig, scenes_dataset
from postnms.data.splits import find_truth
from postnms.errors import UserError
from tests.support.builders import random_candidates
from tests.support.data_folders import WRITERS
from tests.support.studies import small_study, write_truth


@pytest.fixture
def study(tmp_path):
    """Return candidates of five images and their truth, which lie in ``tmp_path``."""
    return small_study(tmp_path)


def test_the_truth_must_be_of_the_images(study, tmp_path):
    file, truth = study.candidates, study.truth
    assert open_truth(file, tmp_path).content == truth.content
    assert open_truth(file, tmp_path / "instances_val.json").content == truth.content
    with pytest.raises(
        UserError, match=r"^data: .*c.safetensors needs the annotations.*\(instances_val.json\)"
    ):
        open_truth(file, None)
    write_truth(tmp_path / "other.json", 6)
    with pytest.raises(UserError, match=r"got 0 that are not in .*other.json, which has 1 more"):
        open_truth(file, tmp_path / "other.json")
    write_truth(tmp_path / "other.json", 5, classes=4)
    with pytest.raises(UserError, match=r"categories: expected a subset .*got also 4 'class 3'"):
        open_truth(file, tmp_path / "other.json")
    content = json.loads((tmp_path / "instances_val.json").read_text())
    del content["annotations"]
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"annotations: expected some, got none"):
        open_truth(file, tmp_path / "other.json")
    images = open_images(file, tmp_path / "other.json")
    assert ([entry["id"] for entry in images.images], images.annotated) == (
        [*file.image_ids],
        False,
    )
    assert images.categories == file.categories


@pytest.mark.parametrize("layout", WRITERS)
def test_a_dump_is_read_with_the_folder_that_it_was_made_with(tmp_path, layout):
    WRITERS[layout](tmp_path)
    dumped = find_truth(tmp_path, "train")
    ids = [entry["id"] for entry in dumped.images]
    name = name_of(Path(dumped.source), tmp_path)
    path = tmp_path / "c.safetensors"
    with CandidateWriter(path, dumped.categories, name, {"split": "train"}) as writer:
        writer.add(random_candidates(20, images=len(ids)), ids)
    assert open_truth(open_candidates(path), tmp_path).annotations == dumped.annotations


def test_the_truth_has_the_labels_of_the_candidates(study, tmp_path):
    content = json.loads(study.data.read_text())
    content["categories"] = content["categories"][1:2]
    content["annotations"] = [e for e in content["annotations"] if e["category_id"] == 2]
    (tmp_path / "fewer.json").write_text(json.dumps(content))
    truth = open_truth(study.candidates, tmp_path / "fewer.json")
    assert truth.categories == study.candidates.categories
    assert truth.content["categories"] == content["categories"]


def test_the_scenes_of_a_dump_are_made_again(tmp_path):
    scenes = ScenesConfig(train=1, val=2, size=64)
    recipe = {"data": DataConfig(scenes=scenes).model_dump(mode="json"), "seed": 3}
    made = scenes_dataset(scenes, 3, "val")
    ids = [record.id for record in made.records]
    categories = (Category(99, "more"), *CATEGORIES)
    path = tmp_path / "c.safetensors"
    with CandidateWriter(path, categories, None, {"recipe": recipe}) as writer:
        writer.add(random_candidates(20), ids)
    truth = open_truth(open_candidates(path), None)
    assert truth.annotations == made.truth.annotations
    assert truth.categories == categories
    with CandidateWriter(path, CATEGORIES, None, {}) as writer:
        writer.add(random_candidates(20), ids)
    with pytest.raises(UserError, match=r"^data: .*needs the annotations of its images: name"):
        open_truth(open_candidates(path), None)


FORMS = [
    ({"recipe": 3}, r"c\.safetensors: recipe: expected an object, got 3"),
    ({"recipe": {"data": [], "seed": 3}}, r"recipe\.data: input should be an object, got \[\]"),
    (
        {"recipe": {"data": {"scenes": {"val": "x"}}, "seed": 3}},
        r"recipe\.data\.scenes\.val: .*'x'",
    ),
    (
        {"recipe": {"data": {"scenes": {"val": 3}}, "seed": 3}},
        r"recipe\.data\.scenes\.val: expected 2, the number of images of the file, got 3",
    ),
    ({"recipe": {"seed": 3}}, r"data: the recipe has no built-in data"),
    ({"recipe": {"data": {}, "seed": -1}}, r"recipe\.seed: expected an integer >= 0, got -1"),
    ({"recipe": {"data": {}}}, r"recipe\.seed: expected an integer >= 0, got None"),
]


@pytest.mark.parametrize(("provenance", "message"), FORMS)
def test_a_recipe_of_another_form_is_named(tmp_path, provenance, message):
    path = tmp_path / "c.safetensors"
    with CandidateWriter(path, CATEGORIES, None, provenance) as writer:
        writer.add(random_candidates(20), [1, 2])
    with pytest.raises(UserError, match=message):
        open_truth(open_candidates(path), None)
