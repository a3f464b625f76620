"""YOLO's ``data.yaml`` and label files, right and odd ones."""

import os

import pytest

from postnms.data.layouts import recognise
from postnms.errors import UserError
from tests.support.data_folders import NAMES, write_image, write_text, write_yolo


@pytest.fixture
def folder(tmp_path):
    write_yolo(tmp_path)
    return tmp_path


def label(folder, text):
    """Write the label file of the val image; return the objects that are read."""
    write_text(folder / "val" / "labels" / "v.txt", text)
    truth = recognise(folder).truth("val")
    return [(entry["category_id"], *entry["bbox"]) for entry in truth.annotations]


RIGHT = {
    "tabs": ("1\t0.5\t0.5\t0.5\t0.2\n", [(1, 10, 12, 20, 6)]),
    "CRLF": ("1 0.5 0.5 0.5 0.2\r\n0 0.25 0.5 0.5 1\r\n", [(1, 10, 12, 20, 6), (0, 0, 0, 20, 30)]),
    "CR": (
        "\r".join(["1 0.5 0.5 0.5 0.2", "0 0.25 0.5 0.5 1", "0 0.25 0.5 0.5 1"]),
        [(1, 10, 12, 20, 6), (0, 0, 0, 20, 30), (0, 0, 0, 20, 30)],
    ),
    "empty": ("", []),
    "blank lines": ("\n \n1 0.5 0.5 0.5 0.2\n\n", [(1, 10, 12, 20, 6)]),
    "byte order mark": ("\ufeff1 0.5 0.5 0.5 0.2", [(1, 10, 12, 20, 6)]),
    "class as a float": ("2.0 0.5 0.5 0.5 0.2", [(2, 10, 12, 20, 6)]),
    "triangle": ("0 0.1 0.2 0.5 0.4 0.3 0.8", [(0, 4, 6, 16, 18)]),
    "over the border by rounding": ("1 0.99 0.5 0.05 0.2", [(1, 38.6, 12, 2, 6)]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_odd_label_files_are_read_rightly(folder, name):
    text, objects = RIGHT[name]
    found = label(folder, text)
    assert [entry[0] for entry in found] == [entry[0] for entry in objects]
    for mine, right in zip(found, objects, strict=True):
        assert mine == pytest.approx(right)


WRONG = {
    "class": (
        "0 .5 .5 .1 .1\n3 .5 .5 .1 .1",
        r"v\.txt:2: class: expected one of \[0, 1, 2\], got 3",
    ),
    "negative class": ("-1 .5 .5 .1 .1", r"v\.txt:1: class: .*got -1"),
    "fraction of a class": ("0.5 .5 .5 .1 .1", r"v\.txt:1: class: .*got 0\.5"),
    "infinite class": ("inf .5 .5 .1 .1", r"v\.txt:1: class: .*got inf"),
    "pixels": ("0 20 15 10 10", r"v\.txt:1: expected shares .* got 20; are these pixels\?"),
    "over 1": (
        "0 0.5 0.5 1.2 0.1",
        r"v\.txt:1: expected shares of the image from 0 to 1, got 1\.2",
    ),
    "NaN": ("0 nan .5 .1 .1", r"v\.txt:1: expected shares of the image from 0 to 1, got nan$"),
    "negative side": ("0 .5 .5 -.05 .1", r"v\.txt:1: expected sides of at least 0, got -0\.05"),
    "text": ("cat .5 .5 .1 .1", r"v\.txt:1: expected numbers, got 'cat \.5"),
    "confidence": ("0 .5 .5 .1 .1 .9", r"v\.txt:1: expected a class and 4 numbers .*got 6 words"),
    "two points": ("0 .5 .5 .1", r"v\.txt:1: .* got 4 words"),
    "odd polygon": ("0 .1 .1 .2 .1 .2 .3 .4", r"v\.txt:1: .* got 8 words"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_label_is_one_line_with_its_place(folder, name):
    text, message = WRONG[name]
    with pytest.raises(UserError, match=message):
        label(folder, text)


def test_a_label_file_that_is_not_text_is_named(folder):
    (folder / "val" / "labels" / "v.txt").write_bytes(b"0 .5 \xff")
    with pytest.raises(UserError, match=r"v\.txt: not UTF-8 at byte 5"):
        recognise(folder).truth("val")


def test_images_and_label_files_without_each_other_are_counted(folder):
    (folder / "train" / "labels" / "none.txt").unlink()
    write_text(folder / "train" / "labels" / "gone.txt", "99 1 1 1 1")
    found = recognise(folder)
    assert "; train: 1 label files have no image (first: 'gone.txt')" in found.describe()
    assert "; train: 1 images have no label file (first: 'none.jpg')" in found.describe()
    assert [len(record.labels) for record in found.read("train").records] == [2, 0, 1]


def test_a_split_without_any_label_file_is_not_annotated(folder):
    write_image(folder / "test" / "images" / "t.jpg")
    yaml = folder / "data.yaml"
    yaml.write_text(yaml.read_text() + "test: test/images\n")
    assert not recognise(folder).read("test").annotated
    assert recognise(folder).read("train").annotated


def test_images_that_are_missing_or_broken_are_counted(folder):
    write_text(folder / "val" / "images" / "broken.jpg", "text")
    with pytest.raises(UserError, match=r"of 2 images 1 are missing or unreadable \(.*broken\.jpg"):
        recognise(folder).read("val")


def test_sub_folders_with_the_same_stems_keep_their_own_labels(folder):
    for name in ("x", "y"):
        write_image(folder / "images" / "night" / name / "a.jpg")
        number = "xy".index(name)
        write_text(folder / "labels" / "night" / name / "a.txt", f"{number} .5 .5 .2 .2\n")
    write_text(folder / "data.yaml", f"train: images/night\nnames: {list(NAMES)}\n")
    records = recognise(folder).read("train").records
    assert [(record.id, record.labels.tolist()) for record in records] == [
        ("images/night/x/a.jpg", [0]),
        ("images/night/y/a.jpg", [1]),
    ]


def test_a_data_folder_inside_a_folder_of_images_keeps_its_labels_beside(tmp_path):
    root = tmp_path / "images" / "set"
    write_image(root / "train" / "a.jpg")
    write_text(root / "train" / "a.txt", "0 .5 .5 .2 .2\n")
    write_text(tmp_path / "labels" / "set" / "train" / "other.txt", "0 .5 .5 .2 .2\n")
    write_text(root / "data.yaml", "train: train\nnames: [cat]\n")
    # The folder "labels" beside "images" is where the rule of YOLO leads.
    assert recognise(root).read("train").records[0].labels.tolist() == []
    inner = tmp_path / "other"
    write_image(inner / "train" / "a.jpg")
    write_text(inner / "train" / "a.txt", "0 .5 .5 .2 .2\n")
    write_text(inner / "data.yaml", "train: train\nnames: [cat]\n")
    assert recognise(inner).read("train").records[0].labels.tolist() == [0]


PLACES = {
    "a list of folders": "train: [train/images, val/images]\nval: val/images",
    "a list of images": "train: train.txt\nval: val/images",
    "another machine": "path: /home/someone/set\ntrain: train/images\nval: val/images",
    "absolute places": "train: /home/me/set/train/images\nval: C:\\data\\set\\val\\images",
    "backslashes": "train: train\\images\nval: val\\images",
    "path beside": "path: .\ntrain: train/images\nval: val/images",
    "path of itself": "path: ../{name}\ntrain: train/images\nval: val/images",
    "valid": "train: train/images\nvalid: val/images",
}


@pytest.mark.parametrize("name", PLACES)
def test_places_of_images_are_found(folder, name):
    write_text(folder / "train.txt", "./train/images/a b.jpg\r\n/home/me/train/images/ö.jpg\r\n\n")
    places = PLACES[name].replace("{name}", folder.name)
    write_text(folder / "data.yaml", f"{places}\nnames:\n  0: cat\n  1: big dog\n  2: Überfisch\n")
    found = recognise(folder)
    count = {"a list of folders": 4, "a list of images": 2}.get(name, 3)
    assert (len(found.read("train").records), len(found.read("val").records)) == (count, 1)
    assert found.read("train").records[0].id == "train/images/a b.jpg"
    moved = name in ("another machine", "absolute places")
    assert ("; the file names places on another machine" in found.describe()) == moved


def test_a_split_that_is_not_there_does_not_keep_the_others_from_being_read(folder):
    """Roboflow names a test split in every export."""
    yaml = folder / "data.yaml"
    yaml.write_text(yaml.read_text() + "test: ../test/images\n")
    found = recognise(folder)
    assert list(found.splits) == ["train", "val"]
    assert found.describe().endswith("; test: '../test/images' is not there")
    assert len(found.read("train").records) == 3
    message = r"data\.yaml: test: expected a folder .* got '\.\./test/images', which is not there"
    with pytest.raises(UserError, match=message):
        found.read("test")
    (folder / "val").rename(folder / "gone")
    found = recognise(folder)
    with pytest.raises(UserError, match=r"data\.yaml: val: .*; set a share of train aside with"):
        found.read("val")
    assert found.set_aside("val", 0.5, 0).read("val").annotated


@pytest.mark.parametrize("lost", ["test: ../test/images", "test: /home/me/set/test/images"])
def test_images_of_other_splits_are_not_those_of_a_place_that_is_not_there(folder, lost):
    """The last part of the place, ``images``, is there, and has train and val in it."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind).mkdir(exist_ok=True)
            (folder / split / kind).rename(folder / kind / split)
    write_text(
        folder / "data.yaml",
        f"train: images/train\nval: images/val\n{lost}\nnames: {list(NAMES)}\n",
    )
    found = recognise(folder)
    assert list(found.splits) == ["train", "val"]
    with pytest.raises(UserError, match=r"data\.yaml: test: .* has the images of another split"):
        found.read("test")


def test_two_places_that_are_not_there_are_not_one_and_the_same(folder):
    (folder / "train" / "images").rename(folder / "images")
    write_text(
        folder / "data.yaml",
        f"train: ../train/images\nval: ../valid/images\nnames: {list(NAMES)}\n",
    )
    with pytest.raises(
        UserError, match=r"data\.yaml: train: expected a folder or a list of images"
    ):
        recognise(folder)


def test_a_path_that_is_there_counts(folder, tmp_path_factory):
    yaml = tmp_path_factory.mktemp("elsewhere") / "my.yaml"
    write_text(yaml, f"path: {folder}\ntrain: train/images\nval: val/images\nnames: [a, b, c]\n")
    found = recognise(yaml)
    assert found.read("train").records[0].id == "train/images/a b.jpg"
    assert [len(record.labels) for record in found.read("train").records] == [2, 0, 1]
    assert recognise(yaml.parent).kind == "YOLO"


def test_images_that_are_listed_twice_count_once(folder):
    line = "train/images/ö.jpg\n"
    write_text(folder / "train.txt", 2 * line)
    write_text(folder / "data.yaml", "train: train.txt\nnames: [a, b, c]\n")
    found = recognise(folder)
    assert len(found.read("train").records) == 1
    assert found.describe().endswith("train: 1 images are listed twice")


MISTAKES = {
    "names are missing": ("train: train/images", r"data\.yaml: names: expected a list or a map"),
    "a name is a map": (
        "names: [{a: b}]",
        r"data\.yaml: names: expected texts .* got 0: \{'a': 'b'\}",
    ),
    "a number is none": ("names: {x: cat}", r"data\.yaml: names: expected texts .* got 'x': 'cat'"),
    "nc": ("names: [a, b]\nnc: 3", r"data\.yaml: nc: expected 2, the number of names, got '3'"),
    "no split": ("names: [a]", r"data\.yaml: expected the images of train, val or test, got none"),
    "a place is missing": (
        "names: [a]\ntrain: no/such",
        r"data\.yaml: train: expected a folder or a list of images, got 'no/such', which is not",
    ),
    "a place is a map": (
        "names: [a]\ntrain: {a: b}",
        r"data\.yaml: train: expected a folder, a list",
    ),
    "two names of val": (
        "names: [a]\nval: val/images\nvalid: val/images",
        r"data\.yaml: valid: is the second name of the split val",
    ),
    "path": (
        "names: [a]\npath: [x]\ntrain: train",
        r"data\.yaml: path: expected a folder, got \['x'\]",
    ),
    "no image": (
        "names: [a]\ntrain: val/labels",
        r"train: .*labels: expected images in this folder",
    ),
    "a list of other files": (
        "names: [a]\ntrain: data.yaml",
        r"data\.yaml: expected a list of images, of 2 lines 2 are no file that is there: 'names",
    ),
    "syntax": ("names: [a\ntrain: x", r"data\.yaml:\d: malformed YAML \("),
    "a list": ("- names", r"data\.yaml: expected fields such as names and train, got \['names'\]"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_the_yaml_are_named(folder, name):
    text, message = MISTAKES[name]
    write_text(folder / "data.yaml", text)
    with pytest.raises(UserError, match=message):
        recognise(folder)


def test_names_are_texts_whatever_yaml_takes_them_for(folder):
    write_text(folder / "data.yaml", "train: train/images\nnames: [no, 1, 2020-01-01]\n")
    names = [category.name for category in recognise(folder).read("train").categories]
    assert names == ["no", "1", "2020-01-01"]


def test_a_yaml_of_another_program_is_not_taken_for_data(folder):
    os.rename(folder / "data.yaml", folder / "mine.yaml")
    write_text(folder / "config.yaml", "a: 1\n")
    assert recognise(folder).kind == "YOLO"
    (folder / "mine.yaml").unlink()
    with pytest.raises(UserError, match="no known layout"):
        recognise(folder)
