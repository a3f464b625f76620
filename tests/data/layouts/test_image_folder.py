"""Hugging Face's image folders, right and odd ones."""

import json

import pytest

from postnms.data.layouts import recognise
from postnms.errors import UserError
from tests.support.data_folders import write_image, write_text


def write(root, *objects, folder="train", **fields):
    lines = []
    for number, found in enumerate(objects):
        write_image(root / folder / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "objects": found, **fields}))
    write_text(root / folder / "metadata.jsonl", "\r\n".join(lines) + "\r\n\n")


def test_names_of_classes_without_a_card(tmp_path):
    write(tmp_path, {"bbox": [[1, 2, 3, 4]], "category": ["dog"]})
    write(tmp_path, {"bbox": [[1, 2, 3, 4]], "category": ["cat é"]}, folder="test")
    found = recognise(tmp_path)
    for split in ("train", "test"):
        named = [(category.id, category.name) for category in found.read(split).categories]
        assert named == [(1, "cat é"), (2, "dog")]
    assert [record.labels.tolist() for record in found.read("train").records] == [[1]]


def test_numbers_of_classes_without_a_card(tmp_path):
    write(
        tmp_path,
        {"bbox": [[1, 2, 3, 4], [0, 0, 5, 5]], "categories": [7, 3]},
        {"bbox": [], "categories": []},
    )
    dataset = recognise(tmp_path).read("train")
    assert [(category.id, category.name) for category in dataset.categories] == [(3, "3"), (7, "7")]
    assert [record.labels.tolist() for record in dataset.records] == [[1, 0], []]


def test_objects_may_be_a_list_of_objects(tmp_path):
    write(tmp_path, [{"bbox": [1, 2, 3, 4], "label": "cat", "area": 12}], [])
    records = recognise(tmp_path).read("train").records
    assert [record.boxes.tolist() for record in records] == [[[1, 2, 4, 6]], []]


def test_sizes_in_the_lines_are_taken(tmp_path):
    write(tmp_path, {"bbox": [[1, 2, 3, 4]], "categories": [1]}, height=50, width=60)
    record = recognise(tmp_path).read("train").records[0]
    assert (record.height, record.width) == (50, 60)


def test_a_folder_without_splits_is_train(tmp_path):
    write(tmp_path, {"bbox": [[1, 2, 3, 4]], "categories": [1]}, folder=".")
    assert list(recognise(tmp_path).splits) == ["train"]


def test_a_list_of_names_in_the_card(tmp_path):
    write(tmp_path, {"bbox": [[1, 2, 3, 4]], "categories": [1]})
    write_text(
        tmp_path / "README.md", "---\r\na:\r\n  class_label:\r\n    names: [no, yes]\r\n---\r\n"
    )
    dataset = recognise(tmp_path).read("train")
    assert [category.name for category in dataset.categories] == ["no", "yes"]


WRONG = {
    "lengths": ({"bbox": [], "categories": [1]}, r"jsonl:1: objects: expected as many .* 1 and 0"),
    "no boxes": (
        {"categories": [1]},
        r"metadata\.jsonl:1: objects\.bbox: expected a list, got None",
    ),
    "no classes": ({"bbox": []}, r"jsonl:1: objects\.categories: expected a list, got None"),
    "a box": (
        {"bbox": [[1, 2, 3]], "category": [1]},
        r"jsonl:1: objects\.bbox\[0\]: expected \[x, y",
    ),
    "negative": (
        {"bbox": [[1, 2, -3, 4]], "category": [1]},
        r"jsonl:1: objects\.bbox\[0\]: expected",
    ),
    "a class": (
        {"bbox": [[1, 2, 3, 4]], "category": [1.5]},
        r"class 0: expected a number or a name",
    ),
    "both": (
        {"bbox": [[1, 2, 3, 4], [1, 2, 3, 4]], "category": [1, "a"]},
        r"expected classes that are all numbers or all names, got both: 1 and 'a'",
    ),
    "objects": (3, r"metadata\.jsonl:1: objects: expected an object, got int"),
    "nothing": ({"bbox": [], "category": []}, r"expected objects in at least one line, got none"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_lines_are_named(tmp_path, name):
    objects, message = WRONG[name]
    write(tmp_path, objects)
    with pytest.raises(UserError, match=message):
        recognise(tmp_path)


TEXTS = {
    "syntax": ('{"file_name": ', r"metadata\.jsonl:1: malformed JSON"),
    "a list": ("[]", r"metadata\.jsonl:1: expected an object, got list"),
    "no name": ('{"file_name": 3}', r"jsonl:1: file_name: expected the name of an image, got 3"),
    "twice": (2 * '{"file_name": "a"}\n', r"jsonl:2: file_name: 'a' is also that of .*jsonl:1"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_wrong_texts_are_named(tmp_path, name):
    text, message = TEXTS[name]
    write_text(tmp_path / "train" / "metadata.jsonl", text)
    with pytest.raises(UserError, match=message):
        recognise(tmp_path)


def test_images_that_are_missing_are_counted(tmp_path):
    write(tmp_path, {"bbox": [[1, 2, 3, 4]], "categories": [1]})
    (tmp_path / "train" / "0.png").unlink()
    with pytest.raises(UserError, match=r"of 1 images 1 are missing or unreadable \(.*0\.png"):
        recognise(tmp_path).read("train")


def test_classes_that_the_card_lacks_are_named(tmp_path):
    write(tmp_path, {"bbox": [[1, 2, 3, 4]], "categories": [5]})
    write_text(tmp_path / "README.md", "---\nclass_label: {names: {'0': cat}}\n---\n")
    with pytest.raises(
        UserError, match=r"names: expected every class of metadata\.jsonl, got not '5'"
    ):
        recognise(tmp_path)
    write_text(tmp_path / "README.md", "---\nclass_label: {names: {x: cat}}\n---\n")
    with pytest.raises(UserError, match=r"README\.md: class_label: names: expected texts"):
        recognise(tmp_path)
