"""A data folder is recognised, and holds the same data in every layout."""

import json

import numpy as np
import pytest

from postnms.data.layouts import recognise
from postnms.errors import UserError
from tests.support.data_folders import (
    NAMES,
    SPLITS,
    WRITERS,
    write_coco,
    write_image,
    write_roboflow,
    write_text,
    write_voc,
    write_yolo,
)


def facts(dataset):
    """Return (class, box) of all objects, by image."""
    names = [category.name for category in dataset.categories]
    return {
        record.path.name: [
            (names[label], *(round(float(value), 3) for value in box))
            for label, box in zip(record.labels, record.boxes, strict=True)
        ]
        for record in dataset.records
    }


def expected(split):
    return {
        name: [(NAMES[label], x, y, x + w, y + h) for label, (x, y, w, h) in objects]
        for name, objects in SPLITS[split].items()
    }


@pytest.mark.parametrize("kind", WRITERS)
def test_every_layout_holds_the_same_data(tmp_path, kind):
    WRITERS[kind](tmp_path)
    found = recognise(tmp_path)
    assert (found.kind, list(found.splits)) == (kind, ["train", "val"])
    for split in ("train", "val"):
        dataset = found.read(split)
        assert facts(dataset) == expected(split)
        assert {category.name for category in dataset.categories} == set(NAMES)
        assert all((record.height, record.width) == (30, 40) for record in dataset.records)
        assert dataset.annotated
        assert [entry["iscrowd"] for entry in dataset.truth.annotations].count(1) == 0
    assert "3, va" in found.describe()
    assert " 1 images, 3 classes" in found.describe()


def test_the_line_names_the_group_that_is_left_out(tmp_path):
    write_roboflow(tmp_path)
    found = recognise(tmp_path)
    assert found.describe() == (
        "Roboflow COCO: train 3, valid 1 images, 3 classes; "
        "'creatures' has no object and is left out"
    )
    assert [category.id for category in found.read("valid").categories] == [1, 2, 3]


@pytest.mark.parametrize("change", ["an object in val", "a class outside the group", "alone"])
def test_a_group_stays_if_it_is_a_class(tmp_path, change):
    write_roboflow(tmp_path)
    file = tmp_path / "valid" / "_annotations.coco.json"
    for file in tmp_path.glob("*/*.json"):
        content = json.loads(file.read_text())
        if change == "an object in val" and file.parent.name == "valid":
            content["annotations"][0]["category_id"] = 0
        if change == "a class outside the group":
            content["categories"][1]["supercategory"] = "other"
        if change == "alone":
            content["categories"] = content["categories"][:1]
            content["annotations"] = []
        file.write_text(json.dumps(content))
    found = recognise(tmp_path)
    assert "creatures" in [category.name for category in found.read("train").categories]
    assert "left out" not in found.describe()


def test_a_class_may_have_the_name_of_its_group(tmp_path):
    """So Roboflow writes a project that is called as its only class."""
    write_roboflow(tmp_path, group="cat")
    for file in tmp_path.glob("*/*.json"):
        content = json.loads(file.read_text())
        content["annotations"] = [e for e in content["annotations"] if e["category_id"] == 1]
        content["categories"] = content["categories"][:2]
        file.write_text(json.dumps(content))
    found = recognise(tmp_path)
    assert found.describe().endswith(", 1 classes; 'cat' has no object and is left out")
    assert [(c.id, c.name) for c in found.read("train").categories] == [(1, "cat")]
    assert found.read("train").records[0].labels.tolist() == [0]
    assert [(c.id, c.name) for c in found.read("val").categories] == [(1, "cat")]


def test_layouts_of_coco_with_years(tmp_path):
    write_coco(tmp_path)
    folder = tmp_path / "annotations"
    folder.mkdir()
    for split in ("train", "val"):
        (tmp_path / f"instances_{split}.json").rename(folder / f"instances_{split}2017.json")
        (tmp_path / "images").rename(tmp_path / f"{split}2017")
        (tmp_path / f"{split}2017").rename(tmp_path / "images")
        (tmp_path / f"{split}2017").symlink_to(tmp_path / "images")
    for name in ("test", "test-dev"):
        content = {"images": [], "categories": [{"id": 1, "name": "cat"}]}
        (folder / f"image_info_{name}2017.json").write_text(json.dumps(content))
    write_image(tmp_path / "test2017" / "x.jpg")
    write_text(folder / "captions_val2017.json", "[]")
    found = recognise(tmp_path)
    assert found.kind == "COCO 2017"
    assert list(found.splits) == ["train", "val", "test", "test-dev"]
    assert found.splits["test-dev"].images == tmp_path / "test2017"
    assert found.splits["val"].images == tmp_path / "val2017"
    assert facts(found.read("val")) == expected("val")
    assert not found.read("test").annotated


def test_splits_of_two_years_keep_their_years(tmp_path):
    for year in (2014, 2017):
        write_text(tmp_path / "annotations" / f"instances_val{year}.json", "{}")
    assert sorted(recognise(tmp_path).splits) == ["val", "val2017"]


def test_a_folder_of_two_layouts_says_which_is_not_read(tmp_path):
    write_coco(tmp_path)
    write_yolo(tmp_path)
    found = recognise(tmp_path)
    assert found.kind == "COCO"
    assert found.describe().endswith("; the files of YOLO in it are not read")
    assert recognise(tmp_path / "data.yaml").kind == "YOLO"


def test_what_is_not_recognised_says_what_was_looked_for_and_what_is_there(tmp_path):
    for number in range(10):
        write_image(tmp_path / f"{number}.jpg")
    with pytest.raises(UserError) as error:
        recognise(tmp_path)
    text = str(error.value)
    assert text.startswith(f"data: {tmp_path}: no known layout of a data set; looked for COCO (")
    for word in ("data.yaml", "Annotations/*.xml", "metadata.jsonl", "_annotations.coco.json"):
        assert word in text
    assert text.endswith(
        "there is 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, 5.jpg, 6.jpg, 7.jpg and 2 more"
    )


def test_the_nearest_thing_to_do_is_named(tmp_path):
    write_voc(tmp_path / "VOC2012")
    with pytest.raises(UserError, match=r"VOC2012 looks like Pascal VOC: name that folder$"):
        recognise(tmp_path)
    with pytest.raises(UserError, match=r"VOC2012 looks like Pascal VOC: name that folder$"):
        recognise(tmp_path / "VOC2012" / "JPEGImages")
    write_text(tmp_path / "json" / "my.json", "{}")
    with pytest.raises(UserError, match=r"--set data\.train_annotations=FILE"):
        recognise(tmp_path / "json")
    (tmp_path / "labelled" / "labels").mkdir(parents=True)
    with pytest.raises(UserError, match=r"write a data\.yaml with names, train and val$"):
        recognise(tmp_path / "labelled")
    (tmp_path / "empty" / "more").mkdir(parents=True)
    with pytest.raises(UserError, match=r"there is nothing$"):
        recognise(tmp_path / "empty" / "more")
    with pytest.raises(UserError, match=r"^data: .*none: no such folder$"):
        recognise(tmp_path / "none")
    with pytest.raises(
        UserError, match=r"^data: expected a folder or a data\.yaml, got .*my\.json"
    ):
        recognise(tmp_path / "json" / "my.json")


def test_a_missing_split_says_how_to_name_or_make_one(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "instances_val.json").unlink()
    found = recognise(tmp_path)
    with pytest.raises(UserError) as error:
        found.read("val")
    text = str(error.value)
    assert "COCO: has no split val, only train; set a share of train aside with " in text
    assert "--set data.val_fraction=0.2" in text
    assert "--set data.val_annotations=FILE --set data.val_images=FOLDER" in text
    with pytest.raises(UserError, match=r"has no split night, only train$"):
        found.read("night")


def test_a_share_of_the_training_images_is_set_aside_by_name_and_seed(tmp_path):
    write_coco(tmp_path)
    with pytest.raises(UserError, match=r"val_fraction: expected data without a val split"):
        recognise(tmp_path).set_aside("val", 0.5, 0)
    (tmp_path / "instances_val.json").unlink()
    file = tmp_path / "instances_train.json"
    content = json.loads(file.read_text())
    image = content["images"][0]
    content["images"] = [{**image, "id": i, "file_name": f"{i}.jpg"} for i in range(400)]
    file.write_text(json.dumps(content))
    parts = {}
    for seed in (0, 1):
        found = recognise(tmp_path).set_aside("val", 0.25, seed)
        train, val = (
            {entry["file_name"] for entry in found.truth(split).images}
            for split in ("train", "val")
        )
        assert not train & val
        assert len(train | val) == 400
        assert 70 <= len(val) <= 130
        parts[seed] = val
    assert parts[0] != parts[1]
    assert "val (0.25 of it)" in found.describe()
    objects = [len(found.truth(split).annotations) for split in ("train", "val")]
    assert sum(objects) == len(content["annotations"])
    # More images do not move the others to another side.
    content["images"] = content["images"][:200][::-1]
    content["annotations"] = []
    file.write_text(json.dumps(content))
    fewer = {
        entry["file_name"]
        for entry in recognise(tmp_path).set_aside("val", 0.25, 1).truth("val").images
    }
    assert fewer == {name for name in parts[1] if int(name[:-4]) < 200}


def test_two_shares_have_no_image_in_common(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "instances_val.json").unlink()
    file = tmp_path / "instances_train.json"
    content = json.loads(file.read_text())
    image = content["images"][0]
    images = [{**image, "id": i, "file_name": f"{i}.jpg"} for i in range(400)]
    file.write_text(json.dumps({**content, "images": images, "annotations": []}))
    found = recognise(tmp_path).set_aside("val", 0.5, 0).set_aside("tuning", 0.5, 0)
    counts = [len(found.truth(name).images) for name in ("train", "val", "tuning")]
    assert sum(counts) == 400
    # The second share is taken of what the first one leaves.
    assert all(
        low <= count <= high
        for count, (low, high) in zip(counts, [(70, 130), (170, 230), (70, 130)], strict=True)
    )
    with pytest.raises(UserError, match=r"data\.tuning_fraction: expected data without a tuning"):
        found.set_aside("tuning", 0.5, 0)


def test_an_unread_large_file_is_not_read_for_the_line(tmp_path, monkeypatch):
    write_coco(tmp_path)
    monkeypatch.setattr("postnms.data.layouts.found.SMALL", 10)
    found = recognise(tmp_path)
    assert found.describe() == "COCO: train (not counted), val (not counted) images"
    found.read("val")
    assert found.describe() == "COCO: train (not counted), val 1 images, 3 classes"


def test_ids_of_images_are_paths_and_those_of_splits_differ(tmp_path):
    write_yolo(tmp_path)
    found = recognise(tmp_path)
    ids = [[record.id for record in found.read(split).records] for split in ("train", "val")]
    assert ids == [
        ["train/images/a b.jpg", "train/images/none.jpg", "train/images/ö.jpg"],
        ["val/images/v.jpg"],
    ]
    record = found.read("train").records[0]
    assert np.asarray(record.load()).shape == (30, 40, 3)


@pytest.mark.parametrize(
    ("files", "titles"),
    [
        (("val/_annotations.coco.json", "valid/_annotations.coco.json"), "val and valid"),
        (("instances_val.json", "instances_validation.json"), "val and validation"),
        (("instances_val2017.json", "annotations/instances_val2017.json"), "val and val"),
        (("valid/metadata.jsonl", "dev/metadata.jsonl"), "dev and valid"),
        (("valid/a.xml", "val/a.xml"), "valid and val"),
    ],
)
def test_two_folders_or_files_of_one_split_are_refused(tmp_path, files, titles):
    texts = {
        ".json": '{"images": [], "categories": [{"id": 1, "name": "cat"}], "annotations": []}',
        ".jsonl": '{"file_name": "a.png", "objects": {"bbox": [[0, 0, 2, 2]], "categories": [1]}}',
        ".xml": "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>2</xmax><ymax>2</ymax></bndbox></object></annotation>",
    }
    for file in files:
        write_text(tmp_path / file, texts[(tmp_path / file).suffix])
    with pytest.raises(UserError, match=f"expected one val split, got two: {titles}"):
        recognise(tmp_path)


def test_the_same_split_of_two_years_is_two_splits(tmp_path):
    for year in (2014, 2017):
        write_text(tmp_path / f"instances_val{year}.json", '{"images": [], "categories": []}')
    titles = {name: split.title for name, split in recognise(tmp_path).splits.items()}
    assert titles == {"val": "val", "val2017": "val2017"}
