"""``make test-export``: an exported detector finds what the detector finds.

The suite leaves this file out, since the export of a detector takes about a minute.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from postnms.data.image_files import find_images
from postnms.errors import UserError
from postnms.export.around_nms import export_around_nms, part_paths
from postnms.export.check import compare
from postnms.export.onnx_model import OnnxModel, SplitModel, plain_nms
from postnms.export.writer import export, read_metadata
from postnms.prediction import Model
from tests.support.detectors import STAGE, build, images
from tests.support.exported import check_suppressor

SIZE = (96, 160)
"""(min_size, max_size) of the small detectors."""
ROWS = ("nms", "post_nms", "post_nms+soft_nms_linear")


@pytest.fixture(scope="module")
def model():
    stage = STAGE.model_copy(update={"suppressor": "soft_nms_linear"})
    return Model(build("faster_rcnn", stage), ["a", "b", "c"], input_size=SIZE)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export(model, path, "onnx", {"run": "none"})
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for index, size in enumerate([(120, 90), (200, 210), (96, 160), (8, 400), (1, 1)]):
        pixels = (images(size)[0].permute(1, 2, 0) * 255).byte().numpy()
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_all_rows_are_those_of_the_detector_for_images_of_any_size(model, exported, folder):
    parities = compare(model, OnnxModel(exported, threads=1), find_images([folder]).paths)
    assert tuple(parity.row for parity in parities) == ROWS
    for parity in parities:
        assert parity.holds, str(parity)
        assert parity.detections == parity.exported > 100


@pytest.fixture(scope="module")
def parts(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_around_nms(model, path, {"run": "none"})
    return part_paths(path)


def test_two_files_around_an_nms_give_the_rows_of_the_detector(model, parts, folder):
    parities = compare(model, SplitModel(*parts, threads=1), find_images([folder]).paths)
    assert [parity.row for parity in parities] == ["nms", "post_nms"]
    for parity in parities:
        assert parity.holds, str(parity)
        assert parity.detections > 100


def test_an_nms_may_keep_less_in_any_order_and_fill_up(model, parts):
    """The order and the padding change nothing. What no kept box owns is left out."""
    batch = (torch.stack(images((96, 128), (96, 128))) * 255).byte().numpy()

    def padded(*arguments):
        return np.append(plain_nms(*arguments)[::-1], [-1, -1])

    def best(*arguments):
        return plain_nms(*arguments)[:5]

    found = SplitModel(*parts, threads=1).run(batch)
    of_padded = SplitModel(*parts, nms=padded, threads=1).run(batch)
    for row, columns in found.items():
        for column, other in zip(columns, of_padded[row], strict=True):
            np.testing.assert_array_equal(column, other)
    of_best = SplitModel(*parts, nms=best, threads=1).run(batch)
    expected = np.sort(found["nms"][1])[-5:]
    np.testing.assert_array_equal(np.sort(of_best["nms"][1]), expected)
    assert len(of_best["post_nms"][1]) == 5
    of_none = SplitModel(*parts, nms=lambda *_: np.zeros(0), threads=1).run(batch)
    assert [len(columns[1]) for columns in of_none.values()] == [0, 0]


def test_the_files_around_nms_have_standard_operators_and_no_nms_after_it(parts):
    import onnx

    for path, inputs in zip(parts, (1, 10), strict=True):
        graph = onnx.load(path).graph
        assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
        assert len(graph.input) == inputs
        about = read_metadata(path, "onnx")
        assert about.rows == ("nms", "post_nms")
        assert list(about.left_out) == ["post_nms+soft_nms_linear"]
    assert "NonMaxSuppression" not in {node.op_type for node in graph.node}
    with pytest.raises(UserError, match=r"got 'stage'; SplitModel reads it"):
        OnnxModel(parts[1])


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
    assert about.rows == ROWS
    assert about.left_out == {}
    assert [category.name for category in about.classes] == ["a", "b", "c"]
    assert about.input_size == SIZE
    assert about.thresholds["nms_iou"] == 0.5
    assert about.dynamic == ("batch", "height", "width")
    assert [value.name for value in file.graph.output] == about.outputs


@pytest.mark.parametrize(
    "text",
    [
        "soft_nms_linear:iou=0.5:min_score=0.4",
        "soft_nms_gaussian:class_agnostic=true:score=0.3:max_detections=9",
        "nms:iou=0.4:score=0.2",
    ],
)
def test_a_suppressor_alone_keeps_the_same_candidates(text):
    check_suppressor(text, cases=60)


def test_predict_needs_no_torch(exported, folder, tmp_path):
    code = (
        "import sys\nfrom postnms.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    line = ["predict", exported, folder, "--out", tmp_path / "out", "--json", tmp_path / "lines"]
    subprocess.run([sys.executable, "-c", code, *map(str, line)], check=True, capture_output=True)
    lines = [json.loads(text) for text in (tmp_path / "lines").read_text().splitlines()]
    results = json.loads((tmp_path / "out" / "results_post_nms+soft_nms_linear.json").read_text())
    assert len(lines) == 5
    assert lines[0]["row"] == ROWS[-1]
    best = max(results, key=lambda entry: entry["score"] * (entry["image_id"] == 1))
    assert lines[0]["detections"][0]["score"] == pytest.approx(best["score"])
    assert len(list((tmp_path / "out").glob("*.png"))) == 5


def test_a_row_that_is_not_there_is_told(exported):
    with pytest.raises(
        UserError, match=r"row: expected one of nms, post_nms, post_nms\+soft.*, got 's'"
    ):
        OnnxModel(exported).chosen_row("s")
