"""Suppressors by name, and how a user chooses one with other settings."""

import pytest

from postnms.errors import UserError
from postnms.structures import EXTRA_COLUMNS
from postnms.suppression import SUPPRESSORS, choose, get_suppressor
from postnms.suppression.greedy import GreedyNMS
from postnms.suppression.soft import SoftNMS
from postnms.suppression.weighted_fusion import WBF


@pytest.mark.parametrize("name", SUPPRESSORS)
def test_a_name_alone_is_the_suppressor_with_its_defaults(name):
    choice = choose(name)
    assert (choice.name, choice.family, dict(choice.settings)) == (name, name, {})
    assert not choice.is_variant
    assert choice.suppressor == get_suppressor(name) == SUPPRESSORS[name]


@pytest.mark.parametrize("name", SUPPRESSORS)
def test_needed_columns_have_the_width_that_the_library_knows(name):
    for column, width in SUPPRESSORS[name].columns.items():
        assert EXTRA_COLUMNS[column].width == width


def test_settings_after_the_name_are_json_or_text():
    choice = choose("wbf:model_weights=[2, 1]:confidence=max:iou=0.4")
    assert choice.suppressor == WBF(model_weights=(2, 1), confidence="max", iou_threshold=0.4)
    assert choice.name == "wbf:model_weights=[2, 1]:confidence=max:iou=0.4"
    assert choice.family == "wbf"
    assert choice.is_variant
    assert choice.settings == {
        "model_weights": [2, 1],
        "confidence": "max",
        "iou_threshold": 0.4,
    }


def test_what_the_name_has_set_stays_where_other_fields_are_set():
    assert get_suppressor("soft_nms_gaussian:sigma=1") == SoftNMS(method="gaussian", sigma=1)
    assert get_suppressor("nms_agnostic:iou=0.3").class_agnostic


def test_two_fields_have_short_names():
    assert get_suppressor("nms:iou=0.3") == GreedyNMS(iou_threshold=0.3)
    assert get_suppressor("nms:score=0.3") == GreedyNMS(score_threshold=0.3)


def test_one_more_setting_adds_to_the_name_and_to_the_settings():
    first = choose("nms:iou=0.4").with_setting("max_detections", 50)
    assert first.name == "nms:iou=0.4:max_detections=50"
    assert first.family == "nms"
    assert first.settings == {"iou_threshold": 0.4, "max_detections": 50}
    assert first.suppressor == GreedyNMS(iou_threshold=0.4, max_detections=50)
    second = choose("nms").with_setting("score_threshold", 0.25)
    assert (second.name, second.is_variant) == ("nms:score_threshold=0.25", True)
    assert choose("nms").suppressor == GreedyNMS()
    with pytest.raises(UserError, match=r"^nms:iou=0.4.max_detections: .*greater than 0, got 0$"):
        choose("nms:iou=0.4").with_setting("max_detections", 0)


def test_unknown_names_fields_and_values_are_named():
    with pytest.raises(
        UserError, match=r"no 'soft_nms_gausian' \(did you mean 'soft_nms_gaussian'\?\)"
    ):
        get_suppressor("soft_nms_gausian")
    with pytest.raises(
        UserError, match=r"nms.iou_treshold: no such field \(did you mean 'iou_threshold'\?\)"
    ):
        get_suppressor("nms:iou_treshold=0.3")
    with pytest.raises(UserError, match="iou_threshold is set twice"):
        get_suppressor("nms:iou=0.5:iou_threshold=0.6")
    with pytest.raises(UserError, match=r"expected FIELD=VALUE after the colon, got '0.3'"):
        get_suppressor("nms:0.3")
    with pytest.raises(
        UserError, match=r"soft_nms_linear.method: .*'hard', 'linear' or 'gaussian', got 'gauss'"
    ):
        get_suppressor("soft_nms_linear:method=gauss")
