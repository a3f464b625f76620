"""Suppression on the boxes that the stage has moved, beside the paper's result, in one pass."""

import pydantic
import pytest
import torch

from postnms.clustering import cluster, keep_keys, representative_boxes
from postnms.stage import StageConfig
from postnms.stage.judged import judge_alone, keys_and_others
from postnms.structures import CLUSTER_OBJECTNESS, OBJECTNESS, POST_NMS_ROW, REFINED, SECOND_NMS_ROW
from postnms.suppression import get_suppressor
from tests.support.builders import make, random_candidates
from tests.support.stages import SIZES, build, features, rows_of_heads

SOFT = "post_nms+soft_nms_linear"
COLUMNS = ("boxes", "scores", "labels", "image", "source")


LOOSE = 0.25
"""Threshold at which some of the random candidates are members of a key."""


def found(count=40, seed=0):
    return random_candidates(count, 2, 2, side=45.0, seed=seed)


def moving(**settings):
    """Return a stage in evaluation mode that moves each box and scores each box differently."""
    stage = build(fusion=(0.5, 0.3, 0.2), **settings).eval()
    for layer in (stage.heads.objectness, stage.heads.refinement):
        torch.nn.init.normal_(layer.weight, std=0.3)
    return stage


@torch.no_grad()
@pytest.mark.parametrize("suppressor", ["soft_nms_linear", "nms:iou=0.4", "cluster_nms_all"])
def test_the_suppressor_sees_all_candidates_as_the_stage_judges_them(suppressor):
    stage = moving(suppressor=suppressor, thinning_iou=None)
    clusters = cluster(found(), LOOSE)
    rows = stage.rows(features(), SIZES, clusters, 6)
    columns = stage.judge(features(), SIZES, clusters)
    own = columns[OBJECTNESS]
    judged = judge_alone(clusters.candidates, columns[REFINED], own, stage.config.fuse)
    expected = get_suppressor(suppressor).model_copy(update={"max_detections": 6})(judged)
    assert list(rows) == [POST_NMS_ROW, f"post_nms+{suppressor.partition(':')[0]}"]
    assert len(expected.scores) == 12
    for name in COLUMNS:
        torch.testing.assert_close(
            getattr(rows[stage.config.rows[1]], name), getattr(expected, name)
        )


def test_gradients_do_not_reach_the_suppressor():
    """Evaluation mode does not ask for ``torch.no_grad``."""
    stage = moving(suppressor="soft_nms_linear", second_nms=0.5)
    clusters = cluster(found(), LOOSE)
    rows = stage.rows(features(), SIZES, clusters, 6)
    assert rows[POST_NMS_ROW].scores.requires_grad
    for name in (SOFT, SECOND_NMS_ROW):
        assert not rows[name].scores.requires_grad
        assert not rows[name].boxes.requires_grad
    columns = stage.judge(features(), SIZES, clusters)
    assert not any(column.requires_grad for column in columns.values())


@torch.no_grad()
def test_the_papers_result_does_not_depend_on_the_suppressor():
    stage = moving(suppressor="soft_nms_linear")
    clusters = cluster(found(), LOOSE)
    with_it = stage.rows(features(), SIZES, clusters, 6)[POST_NMS_ROW]
    alone = stage.detect(features(), SIZES, clusters, 6)
    for name in COLUMNS:
        torch.testing.assert_close(getattr(with_it, name), getattr(alone, name))


@torch.no_grad()
def test_the_columns_of_candidates_give_the_papers_result():
    """The keys, with their columns, are what the stage detects, whatever the fusion."""
    stage = moving()
    clusters = cluster(found(), LOOSE)
    columns = stage.judge(features(), SIZES, clusters)
    detections = stage.detect(features(), SIZES, clusters, 100)
    keys = {name: column[clusters.keys] for name, column in columns.items()}
    scores = stage.config.fuse(
        clusters.candidates.scores[clusters.keys], keys[CLUSTER_OBJECTNESS], keys[OBJECTNESS]
    )
    # The sources of the candidates are their rows.
    order = detections.source.argsort()
    expected = clusters.candidates.source[clusters.keys].argsort()
    torch.testing.assert_close(detections.scores[order], scores[expected])
    torch.testing.assert_close(detections.boxes[order], keys[REFINED][expected])
    members = torch.ones(40, dtype=torch.bool).index_fill(0, clusters.keys, False)
    assert (keys[CLUSTER_OBJECTNESS] != keys[OBJECTNESS]).any()
    assert torch.equal(columns[CLUSTER_OBJECTNESS][members], columns[OBJECTNESS][members])


@torch.no_grad()
def test_every_candidate_and_representative_is_looked_at_once():
    stage = moving(suppressor="soft_nms_linear", thinning_iou=None)
    clusters = cluster(found(), LOOSE)
    seen = rows_of_heads(stage)
    stage.rows(features(), SIZES, clusters, 100)
    union = representative_boxes(clusters, "union")
    others = int((union != clusters.candidates.boxes[clusters.keys]).any(dim=1).sum())
    assert others >= 3
    assert seen == [40 + others]


def test_thinning_leaves_what_nms_keeps_and_every_kept_key():
    boxes = [(0, 0, 100, 10), (40, 0, 140, 10), (50, 0, 150, 10), (200, 0, 210, 10)]
    clusters = cluster(make(boxes, [0.9, 0.8, 0.7, 0.6]), 0.4)
    assert clusters.keys.tolist() == [0, 2, 3]
    looked = keys_and_others(clusters, StageConfig(thinning_iou=0.8), 100)
    assert looked.candidates.source.tolist() == [0, 2, 3, 1]
    assert looked.kept == 3
    looked = keys_and_others(clusters, StageConfig(thinning_iou=0.3), 1)
    assert looked.candidates.source.tolist() == [0, 3]
    assert looked.kept == 1


def test_thinning_looks_at_a_key_that_nms_with_its_threshold_suppresses():
    boxes = [(0, 0, 100, 10), (32, 0, 132, 10), (41, 0, 141, 10)]
    clusters = cluster(make(boxes, [0.9, 0.8, 0.7]), 0.5)
    assert clusters.keys.tolist() == [0, 2]
    # The second box is kept at 0.8, where it suppresses the third, which is a key.
    assert cluster(clusters.candidates, 0.8).keys.tolist() == [0, 1]
    looked = keys_and_others(clusters, StageConfig(thinning_iou=0.8), 100)
    assert looked.candidates.source.tolist() == [0, 2, 1]


def test_rows_have_the_order_of_their_names_and_a_second_nms():
    stage = moving(suppressor="nms", second_nms=0.5)
    assert stage.config.rows == (POST_NMS_ROW, SECOND_NMS_ROW, "post_nms+nms")
    with torch.no_grad():
        rows = stage.rows(features(), SIZES, cluster(found(), LOOSE), 100)
    assert tuple(rows) == stage.config.rows
    assert len(rows[SECOND_NMS_ROW].scores) <= len(rows[POST_NMS_ROW].scores)


@pytest.mark.parametrize("count", [0, 1])
def test_few_candidates(count):
    stage = moving(suppressor="soft_nms_linear")
    with torch.no_grad():
        rows = stage.rows(features(), SIZES, cluster(found(count), LOOSE), 100)
    assert [len(row.scores) for row in rows.values()] == [count, count]


def test_without_clusters_the_score_of_the_cluster_is_that_of_the_key():
    stage = build(fusion=(0, 1, 0), clusters=False)
    other = build(fusion=(0, 0, 1), clusters=False)
    clusters = cluster(found(), LOOSE)
    assert len(keep_keys(clusters, 9)[0].scores) < 40
    with torch.no_grad():
        scores = [each.detect(features(), SIZES, clusters, 9).scores for each in (stage, other)]
    assert torch.equal(*scores)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soft_nms", "no 'soft_nms'"),
        ("nms:iou=2", "iou_threshold"),
        ("iou_guided_nms", "'iou_guided_nms' needs iou"),
    ],
)
def test_a_suppressor_that_cannot_run_is_refused(text, message):
    with pytest.raises((pydantic.ValidationError, ValueError), match=message):
        StageConfig(suppressor=text)
