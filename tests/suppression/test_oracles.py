"""Every suppressor on both backends against its definition in plain loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.structures import Candidates, Detections
from postnms.suppression import SUPPRESSORS, get_suppressor
from postnms.suppression.confluence import Confluence
from postnms.suppression.cp_cluster import CPCluster
from postnms.suppression.greedy import (
    AdaptiveNMS,
    DIoUNMS,
    GreedyNMS,
    IoUGuidedNMS,
    NoSuppression,
    SetNMS,
)
from postnms.suppression.matrix import ClusterNMS, FastNMS, MatrixNMS
from postnms.suppression.merging import NonMaxMerge
from postnms.suppression.soft import SoftNMS, VarianceVoting
from postnms.suppression.voting import NMW, WBC, BoxVoting, MergeNMS
from postnms.suppression.weighted_fusion import WBF
from tests.support import oracles, oracles_of_matrices, oracles_of_rounds

ORACLES = {
    NoSuppression: oracles.none,
    GreedyNMS: oracles.greedy,
    DIoUNMS: oracles.diou_nms,
    SetNMS: oracles.set_nms,
    AdaptiveNMS: oracles.adaptive,
    IoUGuidedNMS: oracles.iou_guided,
    SoftNMS: oracles.soft,
    VarianceVoting: oracles.variance_voting,
    BoxVoting: oracles.box_voting,
    MergeNMS: oracles.merge_nms,
    NMW: oracles.nmw,
    NonMaxMerge: oracles.non_max_merge,
    WBC: oracles.wbc,
    WBF: oracles.wbf,
    FastNMS: oracles.fast,
    ClusterNMS: oracles_of_matrices.cluster_nms,
    MatrixNMS: oracles.matrix_nms,
    CPCluster: oracles_of_rounds.cp_cluster,
    Confluence: oracles_of_rounds.confluence,
}

SETTINGS = [
    *SUPPRESSORS,
    "soft_nms_linear:method=hard:min_score=0",
    "soft_nms_linear:class_agnostic=true:iou_threshold=0",
    *(f"box_voting:vote_threshold=0.4:score_method={method}" for method in
      ("avg", "iou_avg", "generalized_avg:beta=2", "quasi_sum:beta=2", "temp_avg:beta=2")),
    "nmw:belongs_to=first:iou_threshold=0.3",
    "nmw:iou_threshold=0.2",
    "wbc:expected_votes=3:iou_threshold=0.3",
    *(f"wbf:iou_threshold=0.4:model_weights=[1,2,0.5]:confidence={name}" for name in
      ("avg", "max", "box_and_model_avg", "absent_model_aware_avg")),
    "cluster_nms_weighted:distance=true:vote_threshold=0.3:iou_threshold=0.2",
    "cluster_nms_all:vote_threshold=0.3:class_agnostic=true",
    "cluster_nms_all:vote_threshold=0.3:moved=survivors",
    "cluster_nms_penalty:weighted=true:vote_threshold=0.2:moved=survivors:min_score=0.1",
    "non_max_merge:iou_threshold=0.2",
    "non_max_merge_ios:iou_threshold=0.3:class_agnostic=true",
    "cp_cluster:iou_threshold=0.3:friend_threshold=0.4",
    "cp_cluster:iou_threshold=0.2:friend_threshold=0.3:step=0.1:repeat=false",
    "cp_cluster:iou_threshold=0.3:friend_threshold=0.2:step=0:repeat=false:move_boxes=false",
    "confluence:decay=linear:threshold=1.5",
    "confluence:decay=suppress:threshold=1.2:min_score=0.001",
    "confluence_nms:decay=suppress:min_score=0",
    "confluence_nms:threshold=1.2:class_agnostic=true",
    "variance_voting:vote_sigma=0.5:sigma=0.1",
    "nms:iou_threshold=0:score_threshold=0.3:max_detections=3",
    "diou_nms:beta=0.6:iou_threshold=0.2",
    "adaptive_nms:iou_threshold=0.1",
]  # fmt: skip


@st.composite
def problems(draw):
    """Draw a few candidates on a coarse grid with few levels of the score.

    Ties, copies and exact thresholds are common.
    """
    count = draw(st.integers(0, 12))
    numbers = st.lists(st.integers(0, 6), min_size=count, max_size=count)
    x, y = torch.tensor(draw(numbers)), torch.tensor(draw(numbers))
    width, height = torch.tensor(draw(numbers)), torch.tensor(draw(numbers))
    boxes = (
        torch.stack([x, y, x + width, y + height], dim=1).float() if count else torch.zeros(0, 4)
    )
    levels = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])
    scores = torch.tensor(draw(st.lists(levels, min_size=count, max_size=count)))
    few = st.lists(st.integers(0, 2), min_size=count, max_size=count)
    labels, image, source, model = (torch.tensor(draw(few), dtype=torch.int64) for _ in range(4))
    extra = {
        "density": torch.tensor(draw(st.lists(levels, min_size=count, max_size=count))),
        "iou": torch.tensor(draw(st.lists(levels, min_size=count, max_size=count))),
        "edge_log_variance": torch.tensor(draw(numbers)).float().view(-1, 1) - torch.arange(4.0),
        "model": model.float(),
    }
    return Candidates(boxes, scores, labels, image, source, 3, extra)


def expected(suppressor, candidates):
    """The detections that the oracle gives, limited and ordered by the rules of the protocol."""
    rank = suppressor.rank_by(candidates)
    groups = {}
    for row in sorted(range(len(rank)), key=lambda row: (-float(rank[row]), row)):
        threshold = suppressor.score_threshold
        if threshold is not None and not candidates.scores[row] > threshold:
            continue
        box = oracles.Box(
            row,
            candidates.boxes[row].tolist(),
            candidates.scores[row].item(),
            candidates.source[row].item(),
            {name: column[row].tolist() for name, column in candidates.extra.items()},
        )
        label = 0 if suppressor.class_agnostic else int(candidates.labels[row])
        groups.setdefault((int(candidates.image[row]), label), []).append(box)
    found = []
    for (image, _), group in groups.items():
        found += [
            (image, box.row, edges, float(score))
            for box, edges, score in ORACLES[type(suppressor)](group, suppressor)
        ]
    return found


def limited(found, candidates, most):
    kept = []
    for image in range(candidates.num_images):
        kept += sorted(
            (entry for entry in found if entry[0] == image), key=lambda entry: (-entry[3], entry[1])
        )[:most]
    rows = [entry[1] for entry in kept]
    return Detections(
        torch.tensor([entry[2] for entry in kept], dtype=torch.float32).view(-1, 4),
        torch.tensor([entry[3] for entry in kept], dtype=torch.float32),
        candidates.labels[rows],
        candidates.image[rows],
        candidates.source[rows],
        candidates.num_images,
    )


def by_row(detections):
    """Comparable whatever the order of nearly equal scores."""
    columns = (detections.image.tolist(), detections.labels.tolist(), detections.source.tolist())
    return sorted(zip(*columns, strict=True))


@pytest.mark.parametrize("text", SETTINGS)
@settings(max_examples=20, deadline=None)
@given(candidates=problems())
def test_equals_the_definition_on_both_backends(text, candidates):
    suppressor = get_suppressor(text)
    wanted = limited(expected(suppressor, candidates), candidates, suppressor.max_detections)
    for backend in ("cpu", "eager"):
        assert_same(suppressor(candidates, backend=backend), wanted)


def assert_same(found, wanted):
    assert by_row(found) == by_row(wanted)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-5, atol=1e-6)
    # Where two scores are equal but for rounding, their order is not defined. So boxes are compared
    # image by image.
    for image in range(wanted.num_images):
        ours, theirs = found.boxes[found.image == image], wanted.boxes[wanted.image == image]
        torch.testing.assert_close(sort_boxes(ours), sort_boxes(theirs), rtol=1e-4, atol=1e-4)


def sort_boxes(boxes):
    # Rounded at places where no simple fraction lies, so that equal but for rounding is equal here.
    return torch.tensor(
        sorted(boxes.tolist(), key=lambda box: [round(edge + 0.00317, 2) for edge in box])
    ).view(-1, 4)


def test_every_suppressor_has_an_oracle():
    assert {type(suppressor) for suppressor in SUPPRESSORS.values()} == ORACLES.keys()
