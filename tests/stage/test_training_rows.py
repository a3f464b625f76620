"""The rows that the stage is trained on, for each of its switches."""

import pytest
import torch

from postnms.clustering import representative_boxes
from postnms.stage import StageConfig
from postnms.stage.training_rows import training_rows
from tests.support.builders import truths
from tests.support.stages import CANDIDATES, CLUSTERS, TARGETS


def test_training_rows_are_members_then_representatives():
    rows = training_rows(CLUSTERS, TARGETS, StageConfig())
    assert CLUSTERS.keys.tolist() == [0, 3, 4, 2]
    assert len(rows.boxes) == 5 + 4
    assert torch.equal(rows.boxes[:5], CANDIDATES.boxes)
    assert torch.equal(rows.boxes[5:], representative_boxes(CLUSTERS))
    assert rows.positive.tolist() == [True, True, False, False, True, True, False, True, False]
    assert rows.labels.tolist() == [0, 0, 0, 1, 1, 0, 1, 1, 0]
    assert rows.image.tolist() == [0, 0, 0, 0, 1, 0, 0, 1, 0]
    assert rows.truths[0].tolist() == rows.truths[5].tolist() == [1, 0, 21, 20]
    assert rows.truths[4].tolist() == [5, 30, 25, 52]
    assert torch.equal(rows.truths[~rows.positive], rows.boxes[~rows.positive])
    assert rows.w_loc[~rows.positive].tolist() == [0, 0, 0, 0]
    assert rows.w_cls[5:].tolist() == [1, 1, 1, 1]
    torch.testing.assert_close(rows.w_loc[:2], torch.tensor([1.0, 0.6 / 0.9]))


@pytest.mark.parametrize(
    ("settings", "count"),
    [({}, 9), ({"members": False}, 8), ({"representative_rows": False}, 5),
     ({"members": False, "representative_rows": False}, 4)],
)  # fmt: skip
def test_switches_choose_the_rows(settings, count):
    rows = training_rows(CLUSTERS, TARGETS, StageConfig(**settings))
    assert len(rows.boxes) == count
    if settings.get("members") is False:
        assert torch.equal(rows.boxes[:4], CANDIDATES.boxes[CLUSTERS.keys])


def test_clusters_on_crowd_regions_give_no_rows():
    crowd = truths([(1, 0, 21, 20), (38, 38, 62, 62)], [0, 0], [0, 0], [False, True], 2)
    rows = training_rows(CLUSTERS, crowd, StageConfig())
    assert len(rows.boxes) == 7
    assert [40, 40, 60, 60] not in rows.boxes.tolist()
