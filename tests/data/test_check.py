"""What is wrong with image files is said before they are needed, by kind and by name."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from postnms.data.check import check_images, find_problems
from postnms.data.dataset import Category, Dataset, Record, Truth
from postnms.errors import UserError


def split(folder, *names, size=(30, 40)):
    """A split whose images are 40 wide and 30 high."""
    empty = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    records = tuple(Record(i, folder / name, *size, *empty) for i, name in enumerate(names, 1))
    content = {"images": [{"id": record.id} for record in records], "annotations": []}
    return Dataset(Truth((Category(1, "disc"),), content, "t.json"), records)


@pytest.fixture
def folder(tmp_path):
    for i in range(5):
        Image.new("RGB", (40, 30)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_right_images_are_no_problem(folder):
    dataset = split(folder, "0.png", "1.png")
    calls = []
    check_images([dataset, dataset], done=calls.append)
    assert calls == [1, 1, 1, 1]


def test_images_in_memory_are_right(tmp_path):
    dataset = split(tmp_path, "none.png")
    record = dataclasses.replace(dataset.records[0], pixels=np.zeros((30, 40, 3), np.uint8))
    assert find_problems([record]) == ()


def test_each_kind_is_counted_and_its_first_files_are_named(folder):
    for i in (2, 3):
        (folder / f"{i}.png").write_text("text")
    Image.new("RGB", (41, 30)).save(folder / "4.png")
    names = ["0.png", *(f"no{i}.png" for i in range(5)), "2.png", "3.png", "4.png"]
    problems = find_problems(split(folder, *names).records)
    assert [(problem.kind, problem.count) for problem in problems] == [
        ("missing", 5),
        ("of another size than annotated", 1),
        ("unreadable", 2),
    ]
    with pytest.raises(UserError) as error:
        check_images([split(folder, "0.png"), split(folder, *names)])
    text = str(error.value)
    assert text.startswith("t.json: of 9 images 5 missing (")
    assert all(f"no{i}.png: no such image" in text for i in range(3))
    assert "and 2 more)" in text
    assert "no3.png" not in text
    assert "4.png: expected 40 x 30 px as annotated, got 41 x 30" in text


def test_the_limit_of_pixels_is_that_of_the_run(folder):
    (problem,) = find_problems(split(folder, "0.png").records, max_pixels=1199)
    assert (problem.kind, problem.count) == ("too large", 1)
    assert find_problems(split(folder, "0.png").records, max_pixels=1200) == ()
