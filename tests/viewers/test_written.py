"""The files of each viewer have the form that it reads."""

import csv
import dataclasses
import io
import json
from contextlib import redirect_stdout
from xml.etree import ElementTree

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from postnms.errors import UserError
from postnms.evaluation.metrics import coco_metrics
from postnms.viewers.rows import view_row
from postnms.viewers.written import write_for_viewer
from tests.viewers.viewed import NAMES, OBJECTS, RESULTS, results, write_annotations

CLUSTERS = [1, 1, 2, 1, 0, 1, 2]


@pytest.fixture
def truth(tmp_path):
    return write_annotations(tmp_path / "t.json")


@pytest.fixture
def row(truth):
    row = view_row("post_nms", truth, results())
    keys = np.array([True, False, True, True, True, True, True])
    return dataclasses.replace(row, clusters=np.array(CLUSTERS), keys=keys)


def test_coco_files_have_the_fields_and_the_figures(truth, row, tmp_path):
    out = tmp_path / "out"
    assert write_for_viewer("fiftyone", truth, [row], out, {}) == ["truth.json", "post_nms.json"]
    annotations = json.loads((out / "truth.json").read_text())["annotations"]
    assert [entry["missed_by_post_nms"] for entry in annotations] == [m for *_, m in OBJECTS]
    assert [entry["id"] for entry in annotations] == [1, 2, 3, 4]
    written = json.loads((out / "post_nms.json").read_text())
    assert [entry["error"] for entry in written["annotations"]] == [v for *_, v in RESULTS]
    clusters = [entry.get("cluster", 0) for entry in written["annotations"]]
    assert clusters == CLUSTERS
    assert "cluster" not in written["annotations"][4]
    assert written["annotations"][1]["key"] is False
    assert {entry["id"]: entry["name"] for entry in written["categories"]} == NAMES
    with redirect_stdout(io.StringIO()):
        objects = COCO(str(out / "truth.json"))
        assert COCO(str(out / "post_nms.json")).loadImgs([3])[0]["file_name"] == "a <1>.png"
        judged = COCOeval(objects, objects.loadRes(written["annotations"]), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    assert 100 * judged.stats[0] == pytest.approx(coco_metrics(truth, results())["AP"])


def test_the_table_has_the_columns_of_supervision(truth, row, tmp_path):
    out = tmp_path / "out"
    assert write_for_viewer("supervision", truth, [row], out, {}) == ["truth.json", "post_nms.csv"]
    with (out / "post_nms.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    head = "x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,class_name,cluster,error"
    assert list(lines[0]) == [*head.split(","), "file_name", "image_id", "key"]
    # By image in the order of the ids, then by falling score; classes in the order of their ids.
    assert [line["image_id"] for line in lines] == ["3", "3", "7", "7", "7", "7", "7"]
    assert [float(line["confidence"]) for line in lines] == [0.95, 0.4, 0.9, 0.8, 0.7, 0.6, 0.5]
    by_id = sorted(NAMES)
    assert all(NAMES[by_id[int(line["class_id"])]] == line["class_name"] for line in lines)
    assert [lines[2][side] for side in ("x_min", "y_min", "x_max", "y_max")] == [
        "10.0",
        "10.0",
        "30.0",
        "30.0",
    ]
    assert (lines[6]["cluster"], lines[6]["error"], lines[6]["tracker_id"]) == ("", "ignored", "")


def test_cvat_finds_images_labels_and_attributes(truth, row, tmp_path):
    out = tmp_path / "out"
    assert write_for_viewer("cvat", truth, [row], out, {}) == ["labels.json", "post_nms.xml"]
    root = ElementTree.parse(out / "post_nms.xml").getroot()
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    images = root.findall("image")
    about = [(image.get("id"), image.get("name"), image.get("width")) for image in images]
    assert about == [("0", "a <1>.png", "120"), ("1", "b.png", "120")]
    assert [len(image.findall("box")) for image in images] == [2, 5]
    box = images[1].find("box")
    corners = [float(box.get(edge)) for edge in ("xtl", "ytl", "xbr", "ybr")]
    assert (box.get("label"), corners) == (NAMES[5], [10, 10, 30, 30])
    labels = {label["name"]: label for label in json.loads((out / "labels.json").read_text())}
    assert list(labels) == list(NAMES.values())
    for box in root.iter("box"):
        known = {entry["name"]: entry for entry in labels[box.get("label")]["attributes"]}
        for attribute in box:
            entry = known[attribute.get("name")]
            assert entry["default_value"] in entry["values"]
            assert entry["input_type"] != "select" or attribute.text in entry["values"]
            assert entry["input_type"] != "checkbox" or attribute.text in ("true", "false")
    first = {attribute.get("name"): attribute.text for attribute in images[1].find("box")}
    assert first == {"score": "0.9000", "error": "right", "cluster": "1", "key": "true"}


@pytest.mark.parametrize("viewer", ["fiftyone", "supervision", "cvat"])
def test_a_row_without_detections_and_verdicts(truth, tmp_path, viewer):
    blind = dataclasses.replace(truth, annotated=False)
    files = write_for_viewer(viewer, blind, [view_row("nms", blind, [])], tmp_path / "out", {})
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*files, "convert.json"}
    assert "missed_by" not in (tmp_path / "out" / files[0]).read_text()


def test_files_of_an_earlier_call_are_removed_and_those_of_others_stay(truth, row, tmp_path):
    out = tmp_path / "out"
    write_for_viewer("fiftyone", truth, [row], out, {})
    (out / "mine.txt").write_text("mine")
    (tmp_path / "mine.json").write_text("mine")
    marker = json.loads((out / "convert.json").read_text())
    marker["files"] += ["../mine.json", "..", ""]
    (out / "convert.json").write_text(json.dumps(marker))
    write_for_viewer("cvat", truth, [row], out, {"source": "run"})
    assert {path.name for path in out.iterdir()} == {
        "convert.json",
        "labels.json",
        "mine.txt",
        "post_nms.xml",
    }
    assert (tmp_path / "mine.json").is_file()
    assert json.loads((out / "convert.json").read_text())["source"] == "run"


def test_an_image_without_a_name_or_a_size_is_named(tmp_path, row):
    for field in ("file_name", "height", "width"):
        truth = write_annotations(tmp_path / "u.json", **{field: None})
        with pytest.raises(UserError, match=rf"u.json: images\[0\].{field}: expected a "):
            write_for_viewer("cvat", truth, [row], tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_a_name_that_xml_cannot_hold_is_refused_before_anything_is_removed(truth, row, tmp_path):
    write_for_viewer("fiftyone", truth, [row], tmp_path / "out", {})
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    odd = write_annotations(tmp_path / "u.json", file_name="a\x01.png")
    with pytest.raises(UserError, match="characters that XML can hold"):
        write_for_viewer("cvat", odd, [view_row("nms", odd, results())], tmp_path / "out", {})
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_table_has_the_escape_of_what_utf_8_cannot_hold(tmp_path):
    truth = write_annotations(tmp_path / "u.json", file_name="Größe \udcff.png")
    write_for_viewer("supervision", truth, [view_row("nms", truth, results())], tmp_path, {})
    with (tmp_path / "nms.csv").open(newline="", encoding="utf-8") as file:
        assert {line["file_name"] for line in csv.DictReader(file)} == {r"Größe \udcff.png"}
