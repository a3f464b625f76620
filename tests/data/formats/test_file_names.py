"""The file that a name in an annotation file means."""

import os

import pytest

from postnms.data.formats.file_names import find_image

SPELLINGS = [
    ("a.jpg", "a.jpg"),
    ("b/c.jpg", "b\\c.jpg"),
    ("b/c.jpg", "./b/c.jpg"),
    ("my image.jpg", "my%20image.jpg"),
    ("b/é.jpg", "b%2F%C3%A9.jpg"),
    ("b/c.jpg", "b%5Cc.jpg"),
    ("a.jpg", "images/a.jpg"),
    ("a.jpg", "val2017/a.jpg"),
    ("b/c.jpg", "val2017\\b\\c.jpg"),
    ("a.jpg", "a.JPG"),
    ("A.JPEG", "A.jpeg"),
    ("b/my image.png", ".\\images\\b\\my%20image.PNG"),
    ("b/c.jpg", "b/../b\\c.jpg"),
    ("b/é.jpg", "b/e\u0301.jpg"),
    ("u\u0308.jpg", "images/\xfc.JPG"),
]


@pytest.fixture
def images(tmp_path):
    """Return a folder of images, with an image beside it and one in a folder of its own name."""
    folder = tmp_path / "val2017"
    for name in (*{file for file, _ in SPELLINGS}, "images/own.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (tmp_path / "beside.jpg").touch()
    return folder


@pytest.mark.parametrize(("file", "name"), SPELLINGS)
def test_usual_spellings_of_a_name_are_found(images, file, name):
    assert find_image(images, name) == images / file


def test_the_name_as_it_stands_comes_first(images):
    for name in ("a%20b.jpg", "b\\c.jpg", "images/a.jpg", "A.JPG"):
        (images / name).touch()
    (images / "a b.jpg").touch()
    for name in ("a%20b.jpg", "b\\c.jpg", "images/a.jpg", "A.JPG", "images/own.jpg"):
        assert find_image(images, name) == images / name


def test_the_name_as_it_stands_may_lead_anywhere(images):
    beside = images.parent / "beside.jpg"
    assert find_image(images, str(beside)) == beside
    assert find_image(images, "../beside.jpg") == images / "../beside.jpg"


NOT_FOUND = [
    "..\\beside.jpg",
    "%2e%2e/beside.jpg",
    "../beside.JPG",
    "b\\..\\..\\beside.jpg",
    "none.jpg",
    "val2017/val2017/a.jpg",
    "b",
    "",
    "\0",
    "%00",
    "b%",
    "a" * 5000,
    "\ud800.jpg",
]


@pytest.mark.parametrize("name", NOT_FOUND, ids=range(len(NOT_FOUND)))
def test_other_spellings_never_lead_out_and_what_is_not_found_stays(images, name):
    found = find_image(images, name)
    assert found == images / name
    assert not os.path.isfile(found)


def test_an_absolute_name_is_no_other_spelling(images):
    name = str(images.parent / "beside.JPG")
    encoded = name.replace("/", "%2F")
    assert find_image(images, name) == images.parent / "beside.JPG"
    assert find_image(images, encoded) == images / encoded


def test_the_folder_may_be_the_current_one(images, monkeypatch):
    monkeypatch.chdir(images)
    for folder in (type(images)(), type(images)("../val2017")):
        assert find_image(folder, "images\\a.JPG") == folder / "a.jpg"
