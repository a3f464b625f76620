"""``cluster_nms`` as an operation of torch: dispatch, compilation, autocast, and bad input."""

import pytest
import torch

from postnms.ops import cluster_nms, clustering
from postnms.ops.clustering import cpu as cpu_backend
from tests.support.clustering import random_scene


def test_dispatch_takes_the_compiled_backend_on_the_cpu(monkeypatch):
    calls = []
    original = cpu_backend.cluster_nms
    monkeypatch.setattr(
        cpu_backend, "cluster_nms", lambda *args: calls.append(1) or original(*args)
    )
    cluster_nms(*random_scene(10))
    cluster_nms(*random_scene(10), backend="eager")
    assert calls == [1]


def test_triton_wants_a_gpu_or_its_interpreter(monkeypatch):
    monkeypatch.setattr(clustering, "_interprets_triton", lambda: False)
    with pytest.raises(ValueError, match="backend: 'triton' needs CUDA tensors, got boxes on cpu"):
        cluster_nms(*random_scene(10), backend="triton")


def test_compiles_into_one_graph():
    def boxes_of_clusters(boxes, scores, groups):
        keys, assignment = cluster_nms(boxes, scores, groups, 0.5)
        return boxes[keys] + 1, assignment * 2

    compiled = torch.compile(boxes_of_clusters, fullgraph=True, backend="aot_eager")
    for count in (40, 70):
        scene = random_scene(count)
        expected = boxes_of_clusters(*scene)
        assert all(torch.equal(*pair) for pair in zip(compiled(*scene), expected, strict=True))


def test_registration_is_sound():
    boxes, scores, groups = random_scene(30)
    torch.library.opcheck(torch.ops.postnms.cluster_nms.default, (boxes, scores, groups, 0.5, ""))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype):
    scene = random_scene(200)
    expected = cluster_nms(*scene)
    with torch.autocast("cpu", dtype):
        found = cluster_nms(*scene)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


GOOD = {"boxes": torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 2]]), "scores": torch.tensor([0.5, 0.6])}


BAD = [
    ({"boxes": [[0, 0, 1, 1]]}, "boxes: expected a tensor, got list"),
    (
        {"boxes": torch.zeros(2, 5)},
        r"boxes: expected floating \(n, 4\), got torch.float32 \(2, 5\)",
    ),
    ({"boxes": torch.zeros(2, 4, dtype=torch.int64)}, "boxes: expected floating"),
    (
        {"boxes": torch.tensor([[0, 0, 1, 1], [0, 0, float("nan"), 1]])},
        "boxes: expected finite.*row 1",
    ),
    (
        {"boxes": torch.tensor([[0, 0, 1, 1], [0, 0, float("inf"), 1]])},
        "boxes: expected finite.*row 1",
    ),
    ({"boxes": torch.tensor([[0.0, 0, 1, 1], [3, 0, 2, 1]])}, "boxes: expected x1 <= x2.*row 1"),
    (
        {"boxes": torch.tensor([[0.0, 5, 1, 1], [0, 0, 2, 1]])},
        "boxes: expected x1 <= x2 and y1 <= y2.*row 0",
    ),
    (
        {"scores": torch.zeros(3)},
        r"scores: expected floating of shape \(2,\), got torch.float32 \(3,\)",
    ),
    ({"scores": torch.zeros(2, dtype=torch.int32)}, "scores: expected floating"),
    (
        {"scores": torch.tensor([0.1, float("nan")])},
        "scores: expected finite values, got nan in row 1",
    ),
    ({"scores": torch.zeros(2, device="meta")}, "scores: expected device cpu as boxes, got meta"),
    ({"groups": torch.zeros(2)}, "groups: expected int64"),
    ({"groups": torch.zeros(1, dtype=torch.int64)}, "groups: expected int64 of shape"),
    ({"groups": torch.tensor([0, -1])}, "groups: expected values >= 0, got -1"),
    ({"iou_threshold": 1.5}, r"iou_threshold: expected a number in \[0, 1\], got 1.5"),
    ({"iou_threshold": -0.1}, "iou_threshold"),
    ({"iou_threshold": float("nan")}, "iou_threshold"),
    (
        {"backend": "cuda"},
        "backend: expected one of reference, eager, cpu, triton or None, got 'cuda'",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input_names_the_argument(change, message):
    with pytest.raises(ValueError, match=message):
        cluster_nms(**{**GOOD, **change})
