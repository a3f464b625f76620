"""``postnms check`` shows a data set; ``train`` looks at every image file before it begins."""

import json

import pytest

from tests.support.runs import SETS


@pytest.fixture
def scenes(postnms, tmp_path):
    folder = tmp_path / "s"
    postnms("scenes", "--out", folder, "--train", 4, "--val", 2, "--size", 64)
    return folder


def test_a_good_data_set_can_be_trained_on(postnms, scenes, tmp_path):
    status, shown, _ = postnms("check", scenes, "--json", tmp_path / "facts.json")
    assert status == 0
    assert shown.splitlines()[-1] == "training can start"
    counts = {line.split("  ")[0].strip(): line.split()[-2:] for line in shown.splitlines()[1:]}
    assert shown.splitlines()[0].startswith("COCO: train 4, val 2 images, ")
    assert counts["images"] == ["4", "2"]
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert counts["boxes"] == [str(facts[split]["objects"]) for split in ("train", "val")]
    assert counts["class disc"][0] == str(facts["train"]["objects_of"]["disc"])


def test_problems_of_both_splits_are_told_at_once(postnms, scenes):
    (scenes / "images" / "train_00001.png").unlink()
    (scenes / "images" / "val_00000.png").write_text("text")
    status, shown, errors = postnms("check", scenes)
    assert status == 2
    assert "training can start" not in shown
    assert "train: 1 missing (" in errors
    assert "val: 1 unreadable (" in errors


def test_what_train_refuses_is_no_good_data_set(postnms, scenes):
    def change(split, **fields):
        path = scenes / f"instances_{split}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
        return postnms("check", scenes, "--set", "data.images_without_objects=false")

    status, shown, errors = change("train", annotations=[])
    assert (status, "training can start" in shown) == (2, False)
    assert "train.json: expected an image with an object, got 4 without" in errors
    status, _, errors = change("train", annotations=None)
    assert (status, "train.json: annotations: expected some, got none" in errors) == (2, True)
    status, _, errors = change("train", images=[], annotations=[])
    assert (status, "train.json: images: expected at least one, got none" in errors) == (2, True)
    status, shown, errors = change("val", categories=[{"id": 1, "name": "cat"}], annotations=[])
    assert (status, "training can start" in shown) == (2, False)
    assert "val.json: categories: expected a subset of" in errors


def test_a_split_that_is_not_there_is_told_after_the_other(postnms, scenes):
    (scenes / "instances_val.json").unlink()
    status, shown, errors = postnms("check", scenes)
    assert status == 2
    assert "images" in shown
    assert "val: " in errors
    assert "has no split val, only train" in errors
    assert "--set data.val_fraction=0.2" in errors
    other = ("--set", "data.val_annotations=instances_train.json")
    status, shown, _ = postnms("check", scenes, *other)
    assert (status, "4 images are in train and val" in shown) == (0, True)


@pytest.mark.parametrize("name", ["train_00003.png", "val_00001.png"])
def test_a_missing_image_is_met_before_the_first_iteration(postnms, scenes, tmp_path, name):
    (scenes / "images" / name).unlink()
    out = tmp_path / "run"
    status, _, shown = postnms("train", "demo", "--data", scenes, "--out", out, *SETS)
    assert status == 2
    assert "images 1 missing (" in shown
    assert f"{name}: no such image" in shown
    assert not out.exists()


def test_the_facts_replace_facts_and_no_file_of_the_user(postnms, scenes, tmp_path):
    facts = tmp_path / "facts.json"
    assert [postnms("check", scenes, "--json", facts)[0] for _ in range(2)] == [0, 0]
    annotations = scenes / "instances_train.json"
    before = annotations.read_bytes()
    status, _, shown = postnms("check", scenes, "--json", annotations)
    assert status == 2
    assert f"--json: {annotations}: is there and is no file of 'postnms check --json'" in shown
    assert annotations.read_bytes() == before
