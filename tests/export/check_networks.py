"""``pytest tests/export/check_networks.py``: further networks, and programs of torch.

Continuous integration leaves this file out: each network takes a minute.
"""

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from postnms.export.check import compare
from postnms.export.graph import DetectionGraph, exported_rows
from postnms.export.metadata import COLUMNS
from postnms.export.onnx_model import OnnxModel
from postnms.export.program import example_images, to_onnx, trace
from postnms.export.writer import export, open_exported
from postnms.prediction import Model
from tests.support.detectors import STAGE, build, images
from tests.support.exported import check_suppressor


@pytest.mark.parametrize("name", ["retinanet", "cascade_rcnn", "fcos"])
def test_both_rows_are_those_of_the_detector(name):
    detector = build(name).eval()
    # The detector would resize other images, and the graph takes those that are resized already.
    transform = detector.network.transform
    transform.min_size, transform.max_size = (96,), 160
    graph = DetectionGraph(detector, exported_rows(detector, "onnx"))
    outputs = [f"{row}_{column}" for row in graph.rows for column in COLUMNS]
    axes = {0: "batch", 2: "height", 3: "width"}
    model = to_onnx(trace(graph, example_images(96)), ["images"], outputs, [axes])
    runtime = onnxruntime.InferenceSession(model.SerializeToString())
    for batch in (images((96, 128)), images((96, 160), (96, 160))):
        pixels = (torch.stack(batch) * 255).byte()
        found = dict(zip(outputs, runtime.run(outputs, {"images": pixels.numpy()}), strict=True))
        with torch.no_grad():
            rows = detector(list(pixels)).rows
        for row in graph.rows:
            assert len(rows[row].scores) > 50
            np.testing.assert_array_equal(found[f"{row}_image"], rows[row].image)
            np.testing.assert_array_equal(found[f"{row}_labels"], rows[row].labels)
            np.testing.assert_allclose(found[f"{row}_scores"], rows[row].scores, atol=1e-4)
            np.testing.assert_allclose(found[f"{row}_boxes"], rows[row].boxes, atol=0.05)


@pytest.mark.parametrize(
    "text",
    [
        "soft_nms_linear:iou=0",
        "soft_nms_linear:min_score=0:max_detections=1000",
        "soft_nms_linear:min_score=0.5:class_agnostic=true",
        "soft_nms_gaussian",
        "soft_nms_gaussian:sigma=0.05:min_score=0",
        "nms",
        "nms_agnostic:max_detections=3",
        "none:score=0.5",
    ],
)
def test_a_suppressor_alone_keeps_the_same_candidates(text):
    check_suppressor(text, cases=300)


def test_the_detections_of_an_ssd_are_the_same_up_to_the_order_of_equal_scores(tmp_path):
    model = Model(build("ssdlite"), ["a", "b", "c"], input_size=(96, 160))
    export(model, tmp_path / "model.onnx", "onnx", {})
    pixels = (images((120, 90))[0].permute(1, 2, 0) * 255).byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "image.png")
    exported = OnnxModel(tmp_path / "model.onnx", threads=1)
    for parity in compare(model, exported, [tmp_path / "image.png"]):
        assert parity.holds, str(parity)
        assert parity.detections > 100


def test_a_program_of_torch_gives_the_same_bits(tmp_path):
    stage = STAGE.model_copy(update={"suppressor": "box_voting", "thinning_iou": None})
    model = Model(build("faster_rcnn", stage), ["a", "b", "c"], input_size=(96, 160))
    export(model, tmp_path / "model.pt2", "torch_export", {})
    pixels = (torch.stack(images((96, 128), (96, 128))) * 255).byte()
    found = open_exported(tmp_path / "model.pt2", "torch_export").run(pixels.numpy())
    with torch.no_grad():
        rows = model.detector(list(pixels)).rows
    assert list(found) == ["nms", "post_nms", "post_nms+box_voting"]
    for name, columns in found.items():
        row = rows[name]
        for column, expected in zip(
            columns, (row.boxes, row.scores, row.labels, row.image), strict=True
        ):
            np.testing.assert_array_equal(column, expected)
