"""Suppressors by name, and how a user chooses one with other settings."""

import pytest
from pydantic import ValidationError

from postnms.errors import UserError
from postnms.structures import EXTRA_COLUMNS
from postnms.suppression import SUPPRESSORS, choose, get_suppressor
from postnms.suppression.confluence import Confluence
from postnms.suppression.greedy import GreedyNMS
from postnms.suppression.matrix import ClusterNMS, MatrixNMS
from postnms.suppression.soft import SoftNMS
from postnms.suppression.voting import BoxVoting
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


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "soft_nms_gaussian:iou=0.5",
            "iou_threshold has no effect with method='gaussian', got 0.5",
        ),
        ("soft_nms_linear:sigma=0.2", "sigma has no effect with method='linear', got 0.2"),
        (
            "soft_nms_gaussian:sigma=1:method=hard",
            "sigma has no effect with method='hard', got 1.0",
        ),
        ("matrix_nms_linear:sigma=1", "sigma has no effect with method='linear', got 1.0"),
        ("box_voting:beta=2", "beta has no effect with score_method='id', got 2.0"),
        ("confluence:decay=suppress:sigma=1", "sigma has no effect with decay='suppress', got 1.0"),
        ("cluster_nms:beta=1", "beta has no effect without distance, got 1.0"),
        ("cluster_nms_weighted:sigma=1", "sigma has no effect without score_penalty, got 1.0"),
        ("cluster_nms_penalty:vote_threshold=0.5", "vote_threshold has no effect without weighted"),
        ("cluster_nms_weighted:moved=survivors", "moved has no effect without score_penalty"),
    ],
)
def test_a_setting_without_effect_is_refused(text, wanted):
    with pytest.raises(UserError) as error:
        get_suppressor(text)
    assert str(error.value).startswith(f"{text.partition(':')[0]}: {wanted}")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (SoftNMS, {"method": "gaussian", "iou_threshold": 0.5}),
        (MatrixNMS, {"method": "linear", "sigma": 1.0}),
        (BoxVoting, {"score_method": "avg", "beta": 2.0}),
        (Confluence, {"decay": "linear", "sigma": 1.0}),
        (ClusterNMS, {"min_score": 0.1}),
    ],
)
def test_a_setting_without_effect_is_refused_in_python_too(kind, settings):
    with pytest.raises(ValidationError, match="has no effect with"):
        kind(**settings)
