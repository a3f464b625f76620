"""Settings of the stage that are no settings of it are named."""

import pytest

from postnms.errors import UserError
from postnms.stage import StageConfig


def test_configs_refuse_what_they_do_not_know():
    with pytest.raises(
        UserError, match=r"stage.weightin: no such field \(did you mean 'weighting'\?\)"
    ):
        StageConfig.parse({"weightin": "cls"}, "stage")
    with pytest.raises(
        UserError, match=r"stage.weighting: .*'all', 'cls', 'loc' or 'none', got 'both'"
    ):
        StageConfig.parse({"weighting": "both"}, "stage")
    with pytest.raises(UserError, match=r"stage.positive_iou: .*less than or equal to 1, got 2"):
        StageConfig.parse({"positive_iou": 2}, "stage")
    with pytest.raises(UserError, match=r"stage.fusion.0: .*finite number, got nan"):
        StageConfig.parse({"fusion": [float("nan"), 0, 0]}, "stage")
    with pytest.raises(UserError, match=r"stage.delta_weights.3: .*greater than 0, got 0"):
        StageConfig.parse({"delta_weights": [1, 1, 1, 0]}, "stage")
    with pytest.raises(UserError, match=r"stage.suppressor: expected no max_detections, .*; got"):
        StageConfig.parse({"suppressor": "nms:max_detections=5"}, "stage")
    with pytest.raises(UserError, match=r"stage.width: .*valid integer, got True"):
        StageConfig.parse({"width": True}, "stage")
