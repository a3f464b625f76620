"""The Triton kernels of the suppressors: groups of several blocks, ties, and what may round."""

import pytest
import torch
from hypothesis import given, settings

from postnms.structures import Candidates
from postnms.suppression import get_suppressor
from postnms.suppression.confluence import Confluence
from postnms.suppression.cp_cluster import CPCluster
from postnms.suppression.soft import SoftNMS
from postnms.suppression.voting import BoxVoting
from postnms.suppression.weighted_fusion import WBF
from tests.support.builders import candidates_of
from tests.support.suppression import suppress_by
from tests.suppression.test_oracles import assert_same, expected, limited, problems

pytest.importorskip("triton", reason="torch has no triton on this platform")

from postnms.suppression import backends

EXACT = [
    "nms_ios:iou_threshold=0.3",
    "diou_nms:iou_threshold=0.1",
    "set_nms:iou_threshold=0.1",
    "adaptive_nms:iou_threshold=0.1",
    "soft_nms_linear:method=hard:min_score=0:iou_threshold=0.2",
    "soft_nms_linear:iou_threshold=0.1",
    "box_voting:vote_threshold=0.2:iou_threshold=0.3",
    "wbf:iou_threshold=0.2",
    "non_max_merge:iou_threshold=0.1",
    "non_max_merge_ios:iou_threshold=0.3",
    "fast_nms:iou_threshold=0.2",
    "cluster_nms_all:vote_threshold=0.3",
    "matrix_nms_linear",
    "matrix_nms_gaussian",
    "cp_cluster:iou_threshold=0.2:friend_threshold=0.3:step=0.1:repeat=false",
    "cp_cluster:iou_threshold=0.1:friend_threshold=0.1:step=0:move_boxes=false",
    "confluence:decay=linear:threshold=1.5",
    "confluence:decay=suppress:threshold=0.9:min_score=0",
]
"""Suppressors whose operations all have one correct result."""
ROUNDED = [
    "diou_nms:beta=0.6:iou_threshold=0.1",
    "soft_nms_gaussian",
    "variance_voting:vote_sigma=0.5:sigma=0.1",
    "confluence",
    "confluence_nms",
]
"""Suppressors with an exponential or a power, or with sums in another order."""


def crowd(count, seed=0):
    """One group of most boxes and one of a few, on a small grid with three levels of the score."""
    random = torch.Generator().manual_seed(seed)

    def integers(high, *size):
        return torch.randint(high, size, generator=random)

    corner = integers(7, count, 2)
    extra = {
        "density": integers(4, count) / 4,
        "edge_log_variance": integers(5, count, 4).float() - 2,
    }
    return Candidates(
        torch.cat([corner, corner + integers(7, count, 2)], 1).float(),
        (1 + integers(3, count)) / 4,
        (integers(7, count) == 0).long(),
        torch.zeros(count, dtype=torch.int64),
        integers(5, count),
        1,
        extra,
    )


@pytest.mark.parametrize("text", EXACT)
def test_groups_of_several_blocks_equal_the_kernels_of_the_cpu(text):
    candidates = crowd(14)
    rule = get_suppressor(text)
    found = suppress_by("triton", rule, candidates, block=4)
    wanted = rule(candidates, backend="cpu")
    for field in ("source", "labels", "scores", "boxes"):
        assert torch.equal(getattr(found, field), getattr(wanted, field)), field


@pytest.mark.parametrize("text", ROUNDED)
def test_groups_of_several_blocks_equal_the_kernels_of_the_cpu_but_for_rounding(text):
    candidates = crowd(14)
    rule = get_suppressor(text)
    found = suppress_by("triton", rule, candidates, block=4)
    wanted = rule(candidates, backend="cpu")
    assert torch.equal(found.source, wanted.source)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.boxes, wanted.boxes, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "soft_nms_linear:class_agnostic=true:iou_threshold=0",
        "variance_voting:vote_sigma=0.5:class_agnostic=true",
        "confluence:decay=linear:threshold=1.5:class_agnostic=true",
        "wbf:iou_threshold=0.4:class_agnostic=true",
        "non_max_merge_ios:iou_threshold=0.3:class_agnostic=true",
        "adaptive_nms:iou_threshold=0.1:class_agnostic=true",
        "cp_cluster:iou_threshold=0.2:friend_threshold=0.3:step=0.1:class_agnostic=true",
    ],
)
@settings(max_examples=4, deadline=None)
@given(candidates=problems())
def test_equals_the_definition(text, candidates):
    """Each example is some tenths of a second in the interpreter, so there are few."""
    rule = get_suppressor(text)
    wanted = limited(expected(rule, candidates), candidates, rule.max_detections)
    assert_same(suppress_by("triton", rule, candidates, block=2), wanted)


@pytest.mark.parametrize("block", [1, 4])
def test_a_box_joins_the_older_of_two_fused_boxes_that_it_overlaps_equally(block):
    three = candidates_of([[0, 0, 10, 10], [10, 0, 20, 10], [5, 0, 15, 10]], [0.9, 0.5, 0.4])
    found = suppress_by("triton", WBF(iou_threshold=0.3), three, block)
    assert found.source.tolist() == [0, 1]
    assert found.boxes[1].tolist() == [10, 0, 20, 10]


def test_a_fused_box_without_weight_stays_where_it_began():
    copies = candidates_of([[5, 5, 15, 15]] * 3, [0.0] * 3)
    assert suppress_by("triton", WBF(), copies).source.tolist() == [0]


def test_a_key_without_an_area_votes_for_itself():
    point = candidates_of([[5, 5, 5, 5]], [0.5])
    assert suppress_by("triton", BoxVoting(score_method="avg"), point).scores.tolist() == [0.5]


@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("selection", ["confluence", "score"])
def test_of_equal_candidates_confluence_selects_the_lower_row(selection, block):
    copies = candidates_of([[5, 5, 15, 15]] * 3, [0.5] * 3)
    rule = Confluence(selection=selection, decay="suppress")
    assert suppress_by("triton", rule, copies, block).source.tolist() == [0]


@pytest.mark.parametrize("block", [1, 2])
def test_the_nearest_stronger_box_lowers_a_score_in_the_second_round(block):
    """The last box overlaps the strongest one by 0.6, and the second one by 0.9."""
    boxes = [[0, 0, 10, 10], [0, 0, 5.4, 10], [0, 0, 6, 10]]
    rule = CPCluster(friend_threshold=1, step=0, move_boxes=False)
    found = suppress_by("triton", rule, candidates_of(boxes, [1.0, 0.9, 0.8]), block)
    wanted = torch.tensor([1.0, 0.9 * (1 - 0.54) ** 2, 0.8 * (1 - 0.6) * (1 - 0.9)])
    assert found.source.tolist() == [0, 1, 2]
    torch.testing.assert_close(found.scores, wanted)


def test_the_backend_follows_the_device_and_what_cluster_nms_uses(monkeypatch):
    gpu = torch.device("cuda")
    for works, backend in ((True, "triton"), (False, "eager")):
        monkeypatch.setattr(
            backends.clustering.self_check, "triton_passes", lambda device, works=works: works
        )
        assert backends.uses_triton(gpu) is works
        assert backends.chosen_backend(None, gpu) == backend
        assert backends.chosen_backend(None, torch.device("cpu")) == "cpu"
        assert backends.chosen_backend(None, torch.device("meta")) == "eager"


def test_triton_without_a_gpu_or_an_interpreter_is_refused(monkeypatch):
    monkeypatch.setattr(backends.clustering, "_interprets_triton", lambda: False)
    with pytest.raises(
        ValueError, match="backend: 'triton' needs CUDA tensors, got candidates on cpu"
    ):
        SoftNMS()(crowd(3), backend="triton")
