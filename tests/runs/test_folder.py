"""The files of a run folder are read back as they were written."""

import json

from postnms.runs.folder import RunFolder, read_categories, read_data_folder, read_recipe
from tests.support.runs import tiny


def test_a_run_folder_is_read_back(trained_run):
    folder = RunFolder(trained_run)
    assert json.loads(folder.provenance.read_text())["seed"] == 0
    names = [category.name for category in read_categories(folder)]
    assert names == ["disc", "ring", "square", "triangle", "star"]
    assert sorted(json.loads(folder.metrics.read_text())) == ["gain", "nms", "post_nms"]
    assert read_recipe(folder) == tiny("training.iterations=2")
    assert read_data_folder(folder) is None
