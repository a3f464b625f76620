"""An exported detector finds what the detector finds, in onnxruntime and in torch."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from postnms.data.image_files import find_images
from postnms.errors import UserError
from postnms.export.check import compare, differences
from postnms.export.metadata import ExportMetadata
from postnms.export.onnx_model import ExportedRow, OnnxModel
from postnms.export.writer import check_form, check_network, export, read_metadata
from postnms.prediction import Model
from postnms.structures import Detections
from tests.support.detectors import EXAMPLE, build, images

pytestmark = pytest.mark.slow
SIZE = (96, 160)
"""(min_size, max_size) of the small detectors."""


@pytest.fixture(scope="module")
def model():
    return Model(build("faster_rcnn"), ["a", "b", "c"], input_size=SIZE)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export(model, path, "onnx", {"run": "none"})
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for index, size in enumerate([(120, 90), (200, 210), (96, 160)]):
        pixels = (images(size)[0].permute(1, 2, 0) * 255).byte().numpy()
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_both_rows_are_those_of_the_detector_for_images_of_any_size(model, exported, folder):
    parities = compare(model, OnnxModel(exported, threads=1), find_images([folder]).paths)
    assert [parity.row for parity in parities] == ["nms", "post_nms"]
    for parity in parities:
        assert parity.holds, str(parity)
        assert parity.detections == parity.exported > 100


def test_a_batch_is_its_images(model, exported):
    batch = (torch.stack(images((96, 128), (96, 128))) * 255).byte()
    found = OnnxModel(exported, threads=1).run(batch.numpy())
    with torch.no_grad():
        rows = model.detector(list(batch)).rows
    for name, (boxes, scores, labels, image) in found.items():
        row = rows[name]
        np.testing.assert_array_equal(image, row.image)
        np.testing.assert_array_equal(labels, row.labels)
        np.testing.assert_allclose(scores, row.scores, atol=1e-4)
        np.testing.assert_allclose(boxes, row.boxes, atol=0.05)


def test_the_file_says_what_it_is_and_has_standard_operators_alone(exported):
    import onnx

    file = onnx.load(exported)
    assert {node.domain for node in file.graph.node} <= {"", "ai.onnx"}
    assert not file.functions
    assert [entry.version for entry in file.opset_import if entry.domain == ""] == [18]
    about = read_metadata(exported, "onnx")
    assert about.rows == ("nms", "post_nms")
    assert [category.name for category in about.classes] == ["a", "b", "c"]
    assert about.input_size == SIZE
    assert about.thresholds["nms_iou"] == 0.5
    assert about.dynamic == ("batch", "height", "width")
    assert [value.name for value in file.graph.output] == about.outputs


def test_predict_needs_no_torch(exported, folder, tmp_path):
    code = (
        "import sys\nfrom postnms.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    line = ["predict", exported, folder, "--out", tmp_path / "out", "--json", tmp_path / "lines"]
    subprocess.run([sys.executable, "-c", code, *map(str, line)], check=True, capture_output=True)
    lines = [json.loads(text) for text in (tmp_path / "lines").read_text().splitlines()]
    results = json.loads((tmp_path / "out" / "results_post_nms.json").read_text())
    assert len(lines) == 3
    assert lines[0]["row"] == "post_nms"
    best = max(results, key=lambda entry: entry["score"] * (entry["image_id"] == 1))
    assert lines[0]["detections"][0]["score"] == pytest.approx(best["score"])
    assert len(list((tmp_path / "out").glob("*.png"))) == 3


def test_wrong_files_and_names_are_told(exported, tmp_path):
    with pytest.raises(UserError, match=r"row: expected one of nms, post_nms, got 'soft'"):
        OnnxModel(exported).chosen_row("soft")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(UserError, match="onnxruntime does not take it"):
        OnnxModel(tmp_path / "text.onnx")
    with pytest.raises(UserError, match="no such file"):
        OnnxModel(tmp_path / "none.onnx")
    with pytest.raises(UserError, match="expected an ONNX model"):
        read_metadata(tmp_path / "text.onnx", "onnx")
    with pytest.raises(UserError, match="expected a model of 'postnms export'"):
        ExportMetadata.from_strings({}, "file")
    with pytest.raises(UserError, match=r"form: expected one of onnx, torch_export, got 'coreml'"):
        check_form("coreml")
    with pytest.raises(UserError, match=r"TinyDetector cannot be exported.*FasterRCNN"):
        check_network(Model(build(EXAMPLE), ["a", "b", "c"]))


def row(boxes, scores, labels):
    return np.float32(boxes).reshape(-1, 4), np.float32(scores), np.int64(labels)


def eager(boxes, scores, labels):
    columns = [torch.from_numpy(column) for column in row(boxes, scores, labels)]
    zeros = torch.zeros_like(columns[2])
    return Detections(*columns, image=zeros, source=zeros, num_images=1)


def test_differences_are_those_of_the_detections_most_alike():
    one, two = (0, 0, 10, 10), (50, 0, 60, 10)
    mine = eager([one, two], [0.5, 0.5], [0, 0])
    swapped = ExportedRow(*row([two, (0, 0, 10, 10.5)], [0.5, 0.4995], [0, 0]), ["a", "b"])
    assert differences(mine, swapped) == (2, 2, 0.5, pytest.approx(0.0005, rel=1e-3))
    other_class = ExportedRow(*row([one, two], [0.5, 0.5], [0, 1]), ["a", "b"])
    assert differences(mine, other_class) == (2, 2, np.inf, np.inf)
    nothing = ExportedRow(*row([], [], []), ["a", "b"])
    assert differences(eager([], [], []), nothing) == (0, 0, 0.0, 0.0)
