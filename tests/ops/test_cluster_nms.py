"""One suite over all backends; the reference is held against hand-worked tables and torchvision."""

from importlib.util import find_spec
from itertools import pairwise

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms import ops
from postnms.boxes import pairwise_iou
from postnms.ops import BACKENDS, cluster_nms
from postnms.ops.clustering import cpu as cpu_backend
from postnms.ops.clustering import eager
from postnms.ops.clustering.cpu.grid import suits

PATHS = [
    name for name in BACKENDS if name != "reference" and (name != "triton" or find_spec("triton"))
]
PATHS += ["cpu scan", "cpu grid"]
"""Backends, Triton's where there is a Triton, and each way of the one that chooses by count."""


def cluster_by(path, *scene):
    """``cluster_nms`` along one of ``PATHS``; Triton's on the GPU if there is one, else in its interpreter."""
    backend, _, way = path.partition(" ")
    if backend == "triton" and torch.cuda.is_available():
        scene = [part.cuda() if isinstance(part, torch.Tensor) else part for part in scene]
    with pytest.MonkeyPatch.context() as patch:
        if way:
            patch.setattr(cpu_backend, "GRID_FROM", 0 if way == "grid" else 10**9)
        return tuple(part.cpu() for part in cluster_nms(*scene, backend=backend))


def random_scene(count, groups=3, seed=0, levels=20):
    """About ten boxes an object, with tied scores."""
    random = torch.Generator().manual_seed(seed)
    objects = max(count // 10, 1)
    centre = torch.rand(objects, 2, generator=random) * 30 * count**0.5
    side = torch.rand(objects, 2, generator=random) * 60 + 30
    which = torch.arange(count) % objects
    middle = centre[which] + torch.randn(count, 2, generator=random) * 6
    half = side[which] * (1 + 0.1 * torch.randn(count, 2, generator=random).clamp(-2, 2)) / 2
    scores = (torch.rand(count, generator=random) * levels).round() / levels
    return (
        torch.cat([middle - half, middle + half], 1),
        scores,
        torch.randint(groups, (count,), generator=random),
    )


@st.composite
def grids(draw):
    """Boxes on a small integer grid, few score levels and groups: ties and exact thresholds are common."""
    count = draw(st.integers(0, 24))
    corner, side = st.integers(0, 6), st.integers(0, 5)
    rows = draw(st.lists(st.tuples(corner, corner, side, side), min_size=count, max_size=count))
    boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in rows], dtype=torch.float32).view(
        -1, 4
    )
    scores = draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=count, max_size=count))
    groups = draw(st.lists(st.sampled_from([0, 1, 2**40]), min_size=count, max_size=count))
    return boxes, torch.tensor(scores), torch.tensor(groups, dtype=torch.int64)


# boxes, scores, groups, threshold, keys, assignment
TABLES = {
    "empty": ([], [], [], 0.5, [], []),
    "one": ([(0, 0, 2, 2)], [0.3], [0], 0.5, [0], [0]),
    "equal scores go to the lower index": ([(0, 0, 2, 2)] * 3, [0.5] * 3, [0] * 3, 0.5, [0], [0, 0, 0]),
    "iou of exactly the threshold does not suppress": (
        [(0, 0, 2, 2), (0, 0, 2, 1)], [0.9, 0.8], [0, 0], 0.5, [0, 1], [0, 1]),
    "and just under it does": ([(0, 0, 2, 2), (0, 0, 2, 1)], [0.9, 0.8], [0, 0], 0.49, [0], [0, 0]),
    "other groups never meet": ([(0, 0, 2, 2)] * 2, [0.2, 0.9], [0, 1], 0.5, [1, 0], [1, 0]),
    # The middle box is suppressed by the first, so it does not suppress the third.
    "a suppressed box suppresses nothing": (
        [(0, 0, 10, 10), (3, 0, 13, 10), (6, 0, 16, 10)], [0.9, 0.8, 0.7], [0] * 3, 0.5, [0, 2], [0, 0, 1]),
    # IoU with the first key is lower than with the second, but the first comes first.
    "the first key owns, not the nearest": (
        [(0, 0, 10, 10), (4, 0, 14, 10), (3, 0, 13, 10)], [0.9, 0.8, 0.7], [0] * 3, 0.5, [0, 1], [0, 1, 0]),
    "keys are ordered by score over all groups": (
        [(0, 0, 1, 1), (5, 5, 6, 6), (0, 0, 1, 1)], [0.1, 0.9, 0.5], [7, 7, 3], 0.5, [1, 2, 0], [2, 0, 1]),
    "boxes without an area overlap nothing": ([(1, 1, 1, 1)] * 2, [0.9, 0.8], [0, 0], 0.0, [0, 1], [0, 1]),
    "touching boxes at threshold 0": ([(0, 0, 1, 1), (1, 0, 2, 1)], [0.9, 0.8], [0, 0], 0.0, [0, 1], [0, 1]),
    "nothing is over 1": ([(0, 0, 2, 2)] * 2, [0.9, 0.8], [0, 0], 1.0, [0, 1], [0, 1]),
    "scores may be negative": ([(0, 0, 2, 2)] * 2, [-3.0, -2.0], [0, 0], 0.5, [1], [0, 0]),
    "IoU 3/10 is not over 0.3": ([(0, 0, 10, 1), (0, 0, 3, 1)], [0.9, 0.8], [0, 0], 0.3, [0, 1], [0, 1]),
}  # fmt: skip


@pytest.mark.parametrize("path", ["reference", *PATHS])
@pytest.mark.parametrize("name", TABLES)
def test_hand_worked_tables(name, path):
    boxes, scores, groups, threshold, keys, assignment = TABLES[name]
    found = cluster_by(
        path,
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(groups, dtype=torch.int64),
        threshold,
    )
    assert [part.tolist() for part in found] == [keys, assignment]
    assert all(part.dtype == torch.int64 for part in found)


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=300, deadline=None)
@given(scene=grids(), threshold=st.sampled_from([0.0, 0.25, 0.3, 1 / 3, 0.5, 0.6, 1.0]))
def test_backends_equal_the_reference_on_a_grid(path, scene, threshold):
    expected = cluster_nms(*scene, threshold, backend="reference")
    found = cluster_by(path, *scene, threshold)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_backends_equal_the_reference_beyond_one_block(path, dtype):
    boxes, scores, groups = random_scene(2 * eager.BLOCK + 300)
    expected = cluster_nms(boxes.to(dtype), scores.to(dtype), groups, 0.4, backend="reference")
    found = cluster_by(path, boxes.to(dtype), scores.to(dtype), groups, 0.4)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def near_copies(seed, count, spread, dtype):
    """Boxes of sides over a wide range, in clumps of near copies: many pairs on either side of every threshold."""
    random = torch.Generator().manual_seed(seed)
    clumps = count // 6
    which = torch.randint(clumps, (count,), generator=random)
    side = torch.exp(torch.randn(clumps, 2, generator=random, dtype=dtype) * spread)[which] * 40
    side = side * torch.exp(torch.randn(count, 2, generator=random, dtype=dtype) * 0.4)
    middle = (torch.rand(clumps, 2, generator=random, dtype=dtype) * 200 - 100)[which]
    middle = middle + torch.randn(count, 2, generator=random, dtype=dtype) * side / 4
    groups = torch.randint(2, (count,), generator=random)
    return (
        torch.cat([middle - side / 2, middle + side / 2], 1),
        torch.rand(count, generator=random),
        groups,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("threshold", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_the_grid_finds_every_pair_of_any_shape(threshold, spread, dtype):
    for seed in range(4):
        scene = near_copies(seed, 250, spread, dtype)
        expected = cluster_nms(*scene, threshold, backend="reference")
        found = cluster_by("cpu grid", *scene, threshold)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("spread", [0.2, 2.0])
@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8])
def test_the_two_ways_of_the_cpu_agree_on_many_boxes(threshold, spread):
    scene = near_copies(0, 12000, spread, torch.float32)
    found, expected = (
        cluster_by("cpu grid", *scene, threshold),
        cluster_by("cpu scan", *scene, threshold),
    )
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("path", PATHS)
def test_coordinates_of_a_thousandth_and_of_ten_millions_in_one_call(path):
    tiny, _, _ = random_scene(100)
    boxes = torch.cat([tiny * 1e-5, tiny.round() + 1e7])
    scores = torch.rand(200, generator=torch.Generator().manual_seed(1))
    groups = torch.zeros(200, dtype=torch.int64)
    expected = cluster_nms(boxes, scores, groups, 0.5, backend="reference")
    assert all(
        torch.equal(*pair)
        for pair in zip(cluster_by(path, boxes, scores, groups, 0.5), expected, strict=True)
    )


@pytest.mark.parametrize("path", ["cpu", "cpu grid"])
@pytest.mark.parametrize("scale", [1e-140, 1e-25, 1e25, 1e140])
def test_boxes_that_the_grid_cannot_place_are_scanned(path, scale):
    """Sides outside float32's range, or far too short for their distance from the origin."""
    boxes, scores, groups = random_scene(1100, groups=1)
    boxes = boxes.double() * scale
    boxes[:100] = boxes[:100] * 1e-9 + 1e3 * scale
    expected = cluster_nms(boxes, scores, groups, 0.5, backend="reference")
    assert all(
        torch.equal(*pair)
        for pair in zip(cluster_by(path, boxes, scores, groups, 0.5), expected, strict=True)
    )


@pytest.mark.parametrize(
    ("box", "dtype", "suited"),
    [
        (
            [0, 1e7, 1e-3, 1e7 + 5],
            torch.float32,
            True,
        ),  # narrow, and far away along the other axis only
        ([1e7, 0, 1e7 + 1, 1e-3], torch.float32, True),
        ([0, 1e7, 1e-3, 1e7 + 1e-3], torch.float64, False),
        ([1e7, 0, 1e7 + 1e-3, 5], torch.float64, False),
        (
            [1e7, 0, 1e7, 5],
            torch.float64,
            True,
        ),  # without an area: overlaps nothing, wherever it is placed
    ],
)
def test_which_boxes_the_grid_can_place(box, dtype, suited):
    corners = torch.tensor([box], dtype=dtype).T.contiguous().numpy()
    columns = (*corners, (corners[2] - corners[0]) * (corners[3] - corners[1]))
    assert suits(columns, columns[0].dtype.type(0.5)) == suited


def a_million(kind):
    """Boxes, groups and number of keys at threshold 0.5."""
    count = 10**6
    row = torch.arange(count)
    corner = torch.stack([row % 1000, row // 1000], 1).float() * 10
    apart = torch.cat([corner, corner + 9], 1)
    alone = torch.zeros(count, dtype=torch.int64)
    return {
        "identical": (apart[:1].repeat(count, 1), alone, 1),
        "disjoint": (apart, alone, count),
        "each a group of its own": (apart[:1].repeat(count, 1), row, count),
        "without a width": (torch.cat([corner, corner + torch.tensor([0.0, 9])], 1), alone, count),
        "each twice": (apart[row // 2 * 2], alone, count // 2),
    }[kind]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["identical", "disjoint", "each a group of its own", "without a width", "each twice"]
)
def test_a_million_boxes(kind):
    """Anything quadratic would take hours here."""
    boxes, groups, expected = a_million(kind)
    scores = torch.linspace(1, 0, len(boxes))
    keys, assignment = cluster_nms(boxes, scores, groups, 0.5)
    assert len(keys) == expected
    order = torch.argsort(scores, descending=True, stable=True)
    step = 2 if kind == "each twice" else 1
    assert torch.equal(keys, order[::step][:expected])
    owner = (
        torch.arange(len(boxes)) // step
        if expected > 1
        else torch.zeros(len(boxes), dtype=torch.int64)
    )
    assert torch.equal(assignment[order], owner)


def test_threads_share_groups_and_change_nothing(monkeypatch):
    scene = random_scene(3000, groups=7)
    expected = cluster_nms(*scene, 0.5, backend="reference")
    monkeypatch.setattr(cpu_backend, "THREADS_FROM", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    parts = []
    original = cpu_backend._shares
    monkeypatch.setattr(
        cpu_backend, "_shares", lambda *a: parts.extend(original(*a)) or original(*a)
    )
    found = cluster_nms(*scene, 0.5, backend="cpu")
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert len(parts) == 3
    assert [parts[0][0], parts[-1][1]] == [0, 7]
    assert all(before[1] == after[0] for before, after in pairwise(parts))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_kind_of_score_is_ranked(dtype):
    """Signs, zeros of either sign, denormals; apart, so that all are keys."""
    values = [0.0, -0.0, 1.0, -1.0, 5e-324, 1e-45, -1e-45, 3e38, -3e38, 0.0, 1.0, -2.5]
    scores = torch.tensor(values, dtype=dtype)
    corner = torch.arange(len(values), dtype=dtype)[:, None] * 10
    boxes = torch.cat([corner, corner, corner + 5, corner + 5], 1)
    expected = sorted(range(len(values)), key=lambda row: (-float(scores[row]), row))
    assert cluster_nms(boxes, scores, backend="cpu")[0].tolist() == expected


@settings(max_examples=200, deadline=None)
@given(scene=grids(), threshold=st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_the_reference_is_what_the_definition_says(scene, threshold):
    boxes, scores, groups = scene
    keys, assignment = cluster_nms(*scene, threshold, backend="reference")
    overlaps = (pairwise_iou(boxes, boxes) > threshold) & (groups[:, None] == groups)
    rank = {candidate: (-float(scores[candidate]), candidate) for candidate in range(len(scores))}
    assert keys.tolist() == sorted(keys.tolist(), key=rank.__getitem__)
    for candidate in range(len(scores)):
        earlier = [
            p
            for p, k in enumerate(keys.tolist())
            if rank[k] < rank[candidate] and overlaps[k, candidate]
        ]
        if candidate in keys.tolist():
            assert not earlier
            assert keys[assignment[candidate]] == candidate
        else:
            assert assignment[candidate] == earlier[0]


@pytest.mark.parametrize("path", ["reference", *PATHS])
@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.7])
def test_keys_equal_torchvision(path, threshold):
    boxes, scores, groups = random_scene(500, levels=10**6)
    keys, _ = cluster_by(path, boxes, scores, None, threshold)
    assert keys.tolist() == torchvision.ops.nms(boxes, scores, threshold).tolist()
    keys, _ = cluster_by(path, boxes, scores, groups, threshold)
    per_group = [
        rows[torchvision.ops.nms(boxes[rows], scores[rows], threshold)]
        for rows in ((groups == group).nonzero().squeeze(1) for group in range(3))
    ]
    assert sorted(keys.tolist()) == torch.cat(per_group).sort().values.tolist()


@pytest.mark.parametrize("path", ["reference", *PATHS])
def test_groups_are_exact_at_huge_coordinates(path):
    """Separating groups by moving boxes apart loses the fraction of a pixel here."""
    boxes = torch.tensor([[1e7, 0, 1e7 + 64, 64], [1e7 + 8, 0, 1e7 + 72, 64]]).repeat(2, 1)
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    keys, assignment = cluster_by(path, boxes, scores, torch.tensor([0, 0, 5, 5]), 0.5)
    assert (keys.tolist(), assignment.tolist()) == ([0, 2], [0, 0, 1, 1])


@pytest.mark.parametrize("path", ["reference", *PATHS])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(path, dtype):
    boxes, scores, groups = random_scene(200)
    half, half_scores = boxes.to(dtype), scores.to(dtype)
    expected = cluster_nms(half.float(), half_scores.float(), groups, 0.5, backend="reference")
    found = cluster_by(path, half, half_scores, groups, 0.5)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("path", ["reference", *PATHS])
def test_inputs_are_left_as_they_were(path):
    boxes, scores, groups = random_scene(100)
    before = boxes.clone(), scores.clone(), groups.clone()
    cluster_by(path, boxes, scores, groups)
    assert all(torch.equal(*pair) for pair in zip((boxes, scores, groups), before, strict=True))


@pytest.mark.parametrize("path", ["reference", *PATHS])
def test_views_that_require_a_gradient(path):
    boxes, scores, _ = random_scene(60)
    table = torch.cat([boxes, scores[:, None]], 1).requires_grad_()
    keys, assignment = cluster_by(path, table[:, :4], table[:, 4])
    expected = cluster_nms(boxes, scores, backend="reference")
    assert torch.equal(keys, expected[0])
    assert torch.equal(assignment, expected[1])


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
    monkeypatch.setattr(ops, "_interprets_triton", lambda: False)
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
