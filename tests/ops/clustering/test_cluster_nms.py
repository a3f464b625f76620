"""``cluster_nms`` as an operation of torch: dispatch, autocast, and every valid kind of tensor."""

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from postnms.ops import cluster_nms, clustering
from postnms.ops.clustering import cpu as cpu_backend
from tests.support.clustering import INSTALLED, random_scene


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype):
    scene = random_scene(200)
    expected = cluster_nms(*scene)
    with torch.autocast("cpu", dtype):
        found = cluster_nms(*scene)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("groups", [None, torch.tensor([3, 0, 3, 1])])
def test_the_default_dtype_changes_nothing(groups):
    boxes, scores, _ = random_scene(4)
    expected = cluster_nms(boxes, scores, groups)
    torch.set_default_dtype(torch.float64)
    try:
        found = [cluster_nms(boxes, scores, groups, backend=name) for name in (None, *INSTALLED)]
    finally:
        torch.set_default_dtype(torch.float32)
    for parts in found:
        assert all(torch.equal(*pair) for pair in zip(parts, expected, strict=True))
        assert all(part.dtype == torch.int64 for part in parts)


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize(
    "dtype",
    [torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32],
    ids=str,
)
def test_groups_of_any_integer_are_those_of_int64(dtype, backend):
    """The highest number of the dtype is a group too."""
    boxes, scores, groups = random_scene(60)
    groups = torch.where(groups == 2, torch.iinfo(dtype).max, groups)
    expected = cluster_nms(boxes, scores, groups, backend="reference")
    found = cluster_nms(boxes, scores, groups.to(dtype), backend=backend)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def unusual(boxes, scores, groups):
    """The same scene as other tensors hold it: in steps, turned, negated, as a class of its own."""
    table = torch.cat([boxes, scores[:, None]], 1)
    with torch.inference_mode():
        inference = boxes.clone(), scores.clone(), groups.clone()
    return {
        "columns of a table": (table[:, :4], table[:, 4], groups),
        "every second row": (
            boxes.repeat_interleave(2, 0)[::2],
            scores.repeat_interleave(2)[::2],
            groups.repeat_interleave(2)[::2],
        ),
        "columns first": (boxes.T.contiguous().T, scores, groups),
        "parameters": (torch.nn.Parameter(boxes), torch.nn.Parameter(scores), groups),
        "made without autograd": inference,
        "lazily negated": (torch._neg_view(-boxes), torch._neg_view(-scores), groups),
        "boxes of torchvision": (
            tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(9, 9)),
            scores,
            groups,
        ),
    }


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize("name", unusual(*random_scene(1)))
def test_unusual_tensors_are_read_right(name, backend):
    scene = random_scene(60)
    found = cluster_nms(*unusual(*scene)[name], backend=backend)
    for part, expected in zip(found, cluster_nms(*scene, backend="reference"), strict=True):
        assert type(part) is torch.Tensor
        assert torch.equal(part, expected)


@pytest.mark.parametrize("backend", INSTALLED)
def test_one_box_and_one_score_expanded_to_many(backend):
    boxes, scores = torch.tensor([[0.0, 0, 4, 4]]).expand(6, 4), torch.tensor(0.5).expand(6)
    groups = torch.tensor(0).expand(6)
    keys, assignment = cluster_nms(boxes, scores, groups, backend=backend)
    assert (keys.tolist(), assignment.tolist()) == ([0], [0] * 6)


@pytest.mark.parametrize("number", [0.5, np.float16(0.5), np.float32(0.5), np.float64(0.5)])
def test_thresholds_of_numpy(number):
    scene = random_scene(60)
    assert torch.equal(cluster_nms(*scene, number)[0], cluster_nms(*scene, 0.5)[0])
