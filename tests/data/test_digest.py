"""The digest of data tells data from others, whatever the form and place of their files."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from postnms.data.digest import annotations_hash, digest_of
from postnms.data.formats.coco import read_coco, read_truth
from postnms.files.atomic import hash_of

CONTENT = {
    "images": [
        {"id": 1, "file_name": "a.png", "width": 40, "height": 30},
        {"id": 2, "file_name": "b.png", "width": 40, "height": 30},
    ],
    "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "star"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 10, 12]},
        {"id": 2, "image_id": 2, "category_id": 1, "bbox": [3, 4, 9, 9], "iscrowd": 1},
    ],
}


def digest(folder, content, indent=None):
    folder.mkdir(exist_ok=True)
    path = folder / "t.json"
    path.write_text(json.dumps(content, indent=indent))
    dataset = read_coco(path, folder)
    return digest_of(dataset, dataset)


def test_the_form_and_the_place_of_the_files_do_not_count(tmp_path):
    first = digest(tmp_path / "a", CONTENT)
    assert digest(tmp_path / "b", {"info": "new", **CONTENT}, indent=2) == first


CHANGES = [
    ("images", 0, "file_name", "c.png"),
    ("images", 0, "width", 41),
    ("images", 0, "id", 3),
    ("categories", 0, "name", "disk"),
    ("annotations", 0, "bbox", [1, 2, 10, 12.001]),
    ("annotations", 0, "category_id", 1),
    ("annotations", 0, "image_id", 2),
    ("annotations", 1, "iscrowd", 0),
    ("annotations", 1, "area", 50),
]


@pytest.mark.parametrize(("part", "index", "field", "value"), CHANGES)
def test_what_a_run_or_its_figures_depend_on_counts(tmp_path, part, index, field, value):
    content = json.loads(json.dumps(CONTENT))
    content[part][index][field] = value
    if (part, field) == ("images", "id"):
        content["annotations"][0]["image_id"] = value
    assert digest(tmp_path, content) != digest(tmp_path, CONTENT)


def test_annotations_of_one_file_have_its_hash_and_others_that_of_their_content(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(CONTENT))
    truth = read_truth(path)
    assert annotations_hash(truth) == hash_of(path)
    other = dataclasses.replace(truth, source=f"{tmp_path}/data.yaml: val")
    first = annotations_hash(other)
    assert first == annotations_hash(dataclasses.replace(other, source="elsewhere"))
    for change in ({"annotations": truth.annotations[:1]}, {"images": truth.images[::-1]}):
        changed = dataclasses.replace(other, content={**truth.content, **change})
        assert annotations_hash(changed) != first


def test_the_digest_is_the_hash_of_names_and_rows_of_numbers(tmp_path):
    """Runs of earlier versions go on only if this stays as it is."""
    path = tmp_path / "t.json"
    path.write_text(json.dumps(CONTENT))
    dataset = read_coco(path, tmp_path)
    expected = hashlib.sha256()
    for _ in range(2):
        expected.update(b'[[1, "disc"], [2, "star"]]')
        for about, box, label, crowd in (
            (b'[1, "a.png", 30, 40, 1]', [1, 2, 11, 14], 1, False),
            (b'[2, "b.png", 30, 40, 1]', [3, 4, 12, 13], 0, True),
        ):
            expected.update(about)
            expected.update(np.array(box, np.float32).tobytes())
            expected.update(np.array(label, np.int64).tobytes())
            expected.update(np.array(crowd, np.bool_).tobytes())
    rows = [[0, 1, 1, 2, 10, 12, 120, 0], [1, 0, 3, 4, 9, 9, 81, 1]]
    expected.update(np.array(rows, np.float64).tobytes())
    assert digest_of(dataset, dataset) == expected.hexdigest()
