"""The examples of docs/viewers.md, with stand-ins for the libraries that they call.

The stand-ins take the arguments that the documentation of these libraries names.
"""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from postnms.viewers.rows import view_row
from postnms.viewers.written import write_for_viewer
from tests.support.pages import ROOT, run_examples
from tests.viewers.viewed import RESULTS, results, write_annotations


class Dataset:
    """FiftyOne's data set: what was put into it."""

    def __init__(self):
        self.rows = {}

    @classmethod
    def from_dir(cls, dataset_type, data_path, labels_path, include_id):
        content = json.loads(Path(labels_path).read_text())
        assert {"images", "categories", "annotations"} <= set(content)
        assert (dataset_type, data_path, include_id) == ("COCO", "FOLDER/images", True)
        return cls()

    def add_dynamic_sample_fields(self):
        assert list(self.rows) == ["run_nms", "post_nms"]


def add_coco_labels(dataset, label_field, labels_or_path, categories, *, coco_id_field):
    assert coco_id_field == "coco_id"
    names = {entry["id"]: entry["name"] for entry in categories}
    entries = json.loads(Path(labels_or_path).read_text())["annotations"]
    dataset.rows[label_field] = [(names[entry["category_id"]], entry["error"]) for entry in entries]


class Detections:
    """supervision's detections: arrays of equal length, which a mask chooses from."""

    def __init__(self, xyxy, confidence, class_id, data):
        count = len(xyxy)
        assert xyxy.shape == (count, 4)
        assert xyxy.dtype == float
        assert np.issubdtype(class_id.dtype, np.integer)
        assert {len(column) for column in (confidence, class_id, *data.values())} == {count}
        self.xyxy, self.data = xyxy, data

    def __getitem__(self, mask):
        return self.xyxy[mask]


@pytest.fixture
def libraries(monkeypatch):
    shown = []
    app = SimpleNamespace(wait=lambda: None)
    fiftyone, utils, coco = (ModuleType(name) for name in ("fiftyone", "utils", "coco"))
    fiftyone.Dataset, fiftyone.types = Dataset, SimpleNamespace(COCODetectionDataset="COCO")
    fiftyone.launch_app = lambda dataset: shown.append(dataset) or app
    fiftyone.utils, utils.coco, coco.add_coco_labels = utils, coco, add_coco_labels
    supervision = ModuleType("supervision")
    supervision.Detections = Detections
    named = {"fiftyone": fiftyone, "fiftyone.utils": utils, "fiftyone.utils.coco": coco}
    for name, module in {**named, "supervision": supervision}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return shown


def test_the_examples_read_what_is_written(libraries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truth = write_annotations(tmp_path / "t.json")
    rows = [view_row(name, truth, results()) for name in ("run_nms", "post_nms")]
    for viewer, folder in (("fiftyone", "viewed"), ("supervision", "tables")):
        write_for_viewer(viewer, truth, rows, Path(folder), {})
    names = run_examples(ROOT / "docs" / "viewers.md")
    (dataset,) = libraries
    assert [error for _, error in dataset.rows["post_nms"]] == [verdict for *_, verdict in RESULTS]
    assert names["detections"].xyxy.tolist() == [[80, 80, 90, 90], [20, 10, 40, 30]]
    assert len(names["duplicates"]) == 0
