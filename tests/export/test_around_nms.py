"""What lies between two files around NMS: keys in, clusters out."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from onnx import TensorProto

from postnms.clustering import cluster
from postnms.errors import UserError
from postnms.export.around_nms import export_around_nms
from postnms.export.metadata import ExportMetadata
from postnms.export.onnx_model import OnnxModel, SplitModel, plain_nms
from postnms.export.owners import clusters_of_keys
from postnms.prediction import Model
from postnms.structures import Candidates
from tests.support.builders import make
from tests.support.clustering import grids
from tests.support.detectors import build


@given(grids())
def test_keys_of_plain_nms_in_any_order_give_the_clusters(grid):
    boxes, scores, groups = (torch.as_tensor(column) for column in grid[:3])
    zeros = torch.zeros_like(groups)
    candidates = Candidates(boxes, scores, groups, zeros, zeros, 1)
    expected = cluster(candidates, 0.5)
    keys = plain_nms(boxes.numpy(), scores.numpy(), groups.numpy(), 0.5)
    np.testing.assert_array_equal(keys, expected.keys)
    padded = torch.from_numpy(np.append(np.sort(keys)[::-1], -1))
    found = clusters_of_keys(candidates, padded, 0.5)
    assert torch.equal(found.keys, expected.keys)
    assert torch.equal(found.assignment, expected.assignment)
    assert torch.equal(found.candidates.boxes, boxes)


def test_what_no_key_owns_is_left_out():
    boxes = [(0, 0, 10, 10), (40, 0, 50, 10), (1, 0, 11, 10), (41, 0, 51, 10), (1, 0, 11, 10)]
    candidates = make(boxes, [0.5, 0.9, 0.4, 0.3, 0.2], labels=[0, 0, 0, 0, 1])
    found = clusters_of_keys(candidates, torch.tensor([0]), 0.5)
    assert found.candidates.source.tolist() == [0, 2]
    assert found.keys.tolist() == [0]
    assert found.assignment.tolist() == [0, 0]
    both = clusters_of_keys(candidates, torch.tensor([0, 1]), 0.5)
    assert both.candidates.source.tolist() == [0, 1, 2, 3]
    assert both.keys.tolist() == [1, 0]
    assert both.assignment.tolist() == [1, 0, 1, 0]
    none = clusters_of_keys(candidates, torch.tensor([-1, -1]), 0.5)
    assert (len(none.keys), len(none.candidates.scores)) == (0, 0)


def write(path, about):
    """An ONNX file that does nothing, with the metadata."""
    value = onnx.helper.make_tensor_value_info
    ends = value("x", TensorProto.FLOAT, [1]), value("y", TensorProto.FLOAT, [1])
    nodes = [onnx.helper.make_node("Abs", ["x"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "nothing", [ends[0]], [ends[1]])
    opset = onnx.helper.make_opsetid("", 18)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    onnx.helper.set_model_props(model, about.to_strings())
    onnx.save(model, path)
    return path


def test_files_that_do_not_belong_together_are_told(tmp_path):
    about = ExportMetadata(("nms",), (), (96, 96), {}, {}, (), {}, {"run": "one"})
    whole = write(tmp_path / "whole.onnx", about)
    first, second = (
        write(tmp_path / f"{part}.onnx", dataclasses.replace(about, part=part))
        for part in ("candidates", "stage")
    )
    assert OnnxModel(whole).rows == SplitModel(first, second).rows == ("nms",)
    with pytest.raises(UserError, match=r"'whole', got 'stage'; SplitModel reads it"):
        OnnxModel(second)
    with pytest.raises(UserError, match=r"'candidates', got 'whole'; OnnxModel reads it"):
        SplitModel(whole, second)
    with pytest.raises(UserError, match=r"'candidates', got 'stage'"):
        SplitModel(second, first)
    other = dataclasses.replace(about, part="stage", provenance={"run": "two"})
    write(second, other)
    with pytest.raises(UserError, match=r"stage\.onnx: expected the file that belongs to .*cand"):
        SplitModel(first, second)


def test_a_detector_without_a_stage_has_nothing_after_nms(tmp_path):
    model = Model(build("faster_rcnn", None), ["a", "b", "c"])
    with pytest.raises(UserError, match="expected a detector with a stage"):
        export_around_nms(model, tmp_path / "model.onnx", {})
