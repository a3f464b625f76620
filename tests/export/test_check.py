"""What an export is compared by, and what cannot be exported."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export import Dim

from postnms.detectors import Detector
from postnms.errors import UserError
from postnms.export.check import differences
from postnms.export.graph import exported_rows
from postnms.export.metadata import ExportMetadata
from postnms.export.onnx_model import ExportedRow, OnnxModel
from postnms.export.writer import (
    ABOUT,
    check_ending,
    check_form,
    check_network,
    open_exported,
    read_metadata,
    write_program,
)
from postnms.prediction import Model
from postnms.structures import Detections
from tests.support.detectors import EXAMPLE, STAGE, build


def test_what_cannot_be_exported_or_read_is_told(tmp_path):
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
    with pytest.raises(UserError, match=r"out: expected a name that ends in \.pt2 .*, got a\.onnx"):
        check_ending(Path("a.onnx"), "torch_export")
    with pytest.raises(UserError, match=r"TinyDetector cannot be exported.*FasterRCNN"):
        check_network(Model(build(EXAMPLE), ["a", "b", "c"]))


class Doubled(torch.nn.Module):
    """Takes images that are higher than 64 pixels, as the guards of a program say."""

    def forward(self, images):
        return (images * (2 if images.shape[2] > 64 else 3),)


def test_programs_that_are_damaged_or_of_others_are_told(tmp_path):
    file = tmp_path / "model.pt2"
    images = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    program = torch.export.export(Doubled(), (images,), dynamic_shapes=({2: Dim.DYNAMIC},))
    write_program(program, file, ExportMetadata(("a",), (), (96, 96), {}, {}, (), {}, {}))
    model = open_exported(file, "torch_export")
    assert model.rows == ("a",)
    assert model.run(images.numpy())["a"][0].shape == (1, 3, 96, 96)
    with pytest.raises(UserError, match=r"program does not take images of 64 x 96 pixels"):
        model.run(images[:, :, :64].numpy())
    content = file.read_bytes()
    cuts = [b"", content[:1000], content[:-100], b"text", b"\0" * 2000 + content[2000:]]
    for cut in cuts:
        file.write_bytes(cut)
        with pytest.raises(UserError, match=r"expected a program of torch\.export"):
            read_metadata(file, "torch_export")
    for text in ("{", "[" * 2000, "[1]"):
        torch.export.save(program, file, extra_files={ABOUT: text})
        with pytest.raises(UserError, match=r"^.*model\.pt2: (postnms.json: malformed|expected a)"):
            read_metadata(file, "torch_export")
    torch.export.save(program, file)
    with pytest.raises(UserError, match="expected a model of 'postnms export'"):
        read_metadata(file, "torch_export")


def test_the_rows_of_a_form_are_those_of_the_suppressors_that_it_takes():
    changes = {"suppressor": "box_voting", "second_nms": 0.5}
    made = build("faster_rcnn", STAGE.model_copy(update=changes))
    detector = Detector(made.network, made.stage, suppressors=["nms_agnostic", "wbf", "nms_ios"])
    assert exported_rows(detector, "onnx") == (
        "nms",
        "nms_agnostic",
        "post_nms",
        "post_nms_second_nms",
    )
    assert exported_rows(detector, "torch_export") == detector.row_names
    soft = build("faster_rcnn", STAGE.model_copy(update={"suppressor": "soft_nms_gaussian"}))
    assert exported_rows(soft, "onnx") == ("nms", "post_nms", "post_nms+soft_nms_gaussian")
    hard = build(
        "faster_rcnn", STAGE.model_copy(update={"suppressor": "soft_nms_linear:method=hard"})
    )
    assert exported_rows(hard, "onnx") == ("nms", "post_nms")


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


@pytest.mark.parametrize(
    ("box", "score"),
    [((np.nan, 0, 10, 10), 0.5), ((0, 0, np.inf, 10), 0.5), ((0, 0, 9, 9), np.nan)],
)
def test_numbers_that_are_not_finite_are_other_detections(box, score):
    other = ExportedRow(*row([box], [score], [0]), ["a"])
    assert differences(eager([(0, 0, 10, 10)], [0.5], [0]), other) == (1, 1, np.inf, np.inf)
