"""``cluster_nms`` in graphs: compiled, exported and traced, with any number of candidates."""

import pytest
import torch

from postnms.ops import cluster_nms
from tests.support.clustering import random_scene

GROUPED = pytest.mark.parametrize("grouped", [True, False], ids=["groups", "one group"])


class Keep(torch.nn.Module):
    """The boxes of the keys, and the assignment, of a scene or of its better part."""

    def __init__(self, grouped, least=None):
        super().__init__()
        self.grouped, self.least = grouped, least

    def forward(self, boxes, scores, groups):
        if self.least is not None:
            good = scores > self.least
            boxes, scores, groups = boxes[good], scores[good], groups[good]
        keys, assignment = cluster_nms(boxes, scores, groups if self.grouped else None, 0.5)
        return boxes[keys] + 1, assignment * 2


def assert_equals(graph, module, counts=(57, 0, 1)):
    for count in counts:
        scene = random_scene(count)
        for found, expected in zip(graph(*scene), module(*scene), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize(("grouped", "dynamic"), [(True, None), (True, True), (False, True)])
def test_compiles_into_one_graph(grouped, dynamic):
    torch._dynamo.reset()
    module = Keep(grouped)
    graph = torch.compile(module, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    assert_equals(graph, module, counts=(40, 70, 0, 1))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@GROUPED
def test_a_trace_takes_any_number_of_boxes(grouped):
    """Warnings are errors here, so nothing of the trace depends on the number in a Python way."""
    module = Keep(grouped)
    assert_equals(torch.jit.trace(module, random_scene(10)), module)


@GROUPED
@pytest.mark.parametrize("least", [None, 0.3], ids=["whole", "filtered"])
def test_an_export_takes_any_number_of_boxes(grouped, least):
    """The number of boxes that a filter leaves is not known before the graph runs."""
    module, count = Keep(grouped, least), torch.export.Dim("count", min=0)
    program = torch.export.export(module, random_scene(10), dynamic_shapes=({0: count},) * 3)
    assert_equals(program.module(), module)


def test_a_graph_checks_the_lengths_when_it_runs():
    class Filtered(torch.nn.Module):
        def forward(self, boxes, scores):
            return cluster_nms(boxes[boxes[:, 0] > 0], scores[scores > 0])[1]

    boxes, scores, _ = random_scene(10)
    program = torch.export.export(Filtered(), (boxes.abs() + 1, scores + 1)).module()
    assert len(program(boxes.abs() + 1, scores + 1)) == 10
    with pytest.raises((RuntimeError, ValueError)):
        program(boxes.abs() + 1, scores - 2)


# The check of torch reads the gradient of a tensor that has none.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"groups": None},
        {"groups": torch.arange(30, dtype=torch.uint8)},
        {"boxes": random_scene(30)[0].requires_grad_()},
        {"boxes": random_scene(30)[0].half(), "scores": random_scene(30)[1].half()},
    ],
)
def test_registration_is_sound(change):
    given = dict(zip(("boxes", "scores", "groups"), random_scene(30), strict=True)) | change
    torch.library.opcheck(torch.ops.postnms.cluster_nms.default, (*given.values(), 0.5, ""))
