"""Figures of other data than those of the run have a name of their own."""

import pytest

from postnms.data.dataset import Category
from postnms.data.digest import annotations_hash
from postnms.errors import UserError
from postnms.files.atomic import write_json
from postnms.files.json_files import read_json
from postnms.runs.folder import RunFolder, begin_run, write_results
from postnms.runs.measured import measured_name
from tests.support.coco import as_truth
from tests.support.runs import tiny

CLASSES = (Category(1, "disc"),)


def truth_with(width):
    """Return the annotations of an image with one object of this width."""
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, width, 5], "iscrowd": 0}
    image = {"id": 1, "file_name": "1.png", "width": 20, "height": 20}
    classes = [{"id": 1, "name": "disc"}]
    return as_truth(
        {"images": [image], "annotations": [{**box, "area": 5 * width}], "categories": classes}
    )


OWN, OTHER = truth_with(5), truth_with(6)


@pytest.mark.parametrize(
    ("data", "split", "truth", "name"),
    [
        (None, "val", OTHER, "val"),
        ("data", "val", OTHER, "val"),
        ("data", "test", OTHER, "test"),
        ("x/../data", "val", OTHER, "val"),
        ("moved", "val", OWN, "val"),
        # The annotations of the val split alone are known.
        ("moved", "test", OWN, "moved.test"),
        ("night", "val", OTHER, "night.val"),
        ("night/data", "val", OTHER, "data.val"),
        ("night/data.yaml", "train", OTHER, "data.yaml.train"),
        ("a\\b", "val", OTHER, "a_b.val"),
    ],
)
def test_other_data_come_before_the_split(tmp_path, data, split, truth, name):
    run = RunFolder(tmp_path / "run")
    facts = {"resume": False, "val_hash": annotations_hash(OWN)}
    begin_run(run, tiny(), CLASSES, tmp_path / "data", **facts)
    folder = None if data is None else tmp_path / data
    assert measured_name(run, split, folder, truth) == name


def test_another_folder_of_the_same_name_has_the_folder_around_it_in_front(tmp_path):
    run = RunFolder(tmp_path / "run")
    begin_run(run, tiny(), CLASSES, tmp_path / "data", resume=False)
    folders = [tmp_path / name / "night" for name in ("north", "south", "a/south")]
    names = ["night.val", "south_night.val", "a_south_night.val"]
    for folder, name in zip(folders, names, strict=True):
        for _ in range(2):
            assert measured_name(run, "val", folder, OTHER) == name
            write_results(run, None, {}, name, folder)
    assert measured_name(run, "test", folders[1], OTHER) == "night.test"
    assert [measured_name(run, "val", folder, OTHER) for folder in folders] == names


def test_a_list_of_an_earlier_version_has_no_folders(tmp_path):
    run = RunFolder(tmp_path / "run")
    begin_run(run, tiny(), CLASSES, tmp_path / "data", resume=False)
    write_json(run.other_splits, ["night.val"])
    assert measured_name(run, "val", tmp_path / "night", OTHER) == "night.val"
    write_results(run, None, {}, "test")
    assert read_json(run.other_splits) == {"night.val": None, "test": None}


def test_a_run_of_a_version_that_stored_no_hash_knows_its_data_by_their_folder(tmp_path):
    run = RunFolder(tmp_path / "run")
    begin_run(run, tiny(), CLASSES, tmp_path / "data", resume=False)
    assert measured_name(run, "val", tmp_path / "data", OWN) == "val"
    assert measured_name(run, "val", tmp_path / "moved", OWN) == "moved.val"


def test_data_that_a_run_got_in_memory_are_known_by_their_annotations(tmp_path):
    run = RunFolder(tmp_path / "run")
    begin_run(run, tiny(), CLASSES, None, resume=False, val_hash=annotations_hash(OWN))
    assert measured_name(run, "val", tmp_path / "data", OWN) == "val"
    assert measured_name(run, "val", tmp_path / "data", OTHER) == "data.val"


def test_a_hash_of_another_form_is_one_line(tmp_path):
    run = RunFolder(tmp_path / "run")
    begin_run(run, tiny(), CLASSES, None, resume=False)
    write_json(run.provenance, {**read_json(run.provenance), "annotations_sha256": 5})
    with pytest.raises(UserError, match="annotations_sha256: expected a text, got 5"):
        measured_name(run, "val", tmp_path / "data", OWN)
