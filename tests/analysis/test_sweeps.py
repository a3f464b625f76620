"""One setting of suppressors over a range of values."""

import pytest

from postnms import UserError
from postnms.analysis.sweeps import MOST_VALUES, sweep
from postnms.suppression import choose, get_suppressor


def names(choices):
    return [choice.name for choice in choices]


def test_a_sweep_changes_one_field():
    swept = sweep([choose("nms"), choose("none")], "iou=0.3:0.7:0.2")
    assert names(swept) == [
        "nms",
        "none",
        "nms:iou_threshold=0.3",
        "nms:iou_threshold=0.5",
        "nms:iou_threshold=0.7",
    ]
    assert swept[-1].suppressor == get_suppressor("nms:iou_threshold=0.7")
    assert [choice.is_variant for choice in swept] == [False, False, True, True, True]
    assert {choice.family for choice in swept[2:]} == {"nms"}


def test_a_field_is_swept_once():
    twice = sweep(sweep([choose("nms")], "iou=0.3:0.4:0.1"), "iou=0.6:0.6:1")
    assert names(twice) == [
        "nms",
        "nms:iou_threshold=0.3",
        "nms:iou_threshold=0.4",
        "nms:iou_threshold=0.6",
    ]


def test_what_the_user_has_set_stays():
    own = [choose("nms:iou=0.4")]
    assert names(sweep(own, "max_detections=50:100:50")) == [
        "nms:iou=0.4",
        "nms:iou=0.4:max_detections=50",
        "nms:iou=0.4:max_detections=100",
    ]
    with pytest.raises(
        UserError, match="none of the suppressors has a field 'iou_threshold' that is not set"
    ):
        sweep(own, "iou=0.3:0.4:0.1")


def test_a_field_without_effect_is_not_swept():
    both = [choose("soft_nms_linear"), choose("soft_nms_gaussian")]
    assert names(sweep(both, "iou=0.4:0.5:0.1"))[2:] == [
        "soft_nms_linear:iou_threshold=0.4",
        "soft_nms_linear:iou_threshold=0.5",
    ]
    with pytest.raises(UserError, match="none of the suppressors has a field 'iou_threshold'"):
        sweep(both[1:], "iou=0.4:0.5:0.1")


@pytest.mark.parametrize(
    "text",
    [
        "iou=0:1e-8:1e-10",
        "iou=0.3",
        "iou=0.3:0.2:0.1",
        "iou=0:1:0",
        "=0:1:0.5",
        "iou=a:b:c",
        "iou=0:inf:1",
    ],
)
def test_another_form_is_named(text):
    with pytest.raises(UserError, match=f"^sweep: {text}: expected FIELD=FIRST:LAST:STEP"):
        sweep([choose("nms")], text)


def test_fields_and_values_that_no_suppressor_takes_are_named():
    with pytest.raises(
        UserError, match=r"no.*field 'sigmas' that is not set \(did you mean 'sigma'\?\)"
    ):
        sweep([choose("soft_nms_gaussian")], "sigmas=0:1:0.5")
    with pytest.raises(UserError, match=r"nms.iou_threshold: .*less than or equal to 1, got 2"):
        sweep([choose("nms")], "iou=1:2:1")


def test_a_sweep_has_so_many_values_at_most():
    most = f"max_detections=1:{MOST_VALUES}:1"
    assert len(sweep([choose("nms")], most)) == MOST_VALUES + 1
    with pytest.raises(UserError, match="expected FIELD=FIRST:LAST:STEP"):
        sweep([choose("nms")], f"max_detections=0:{MOST_VALUES}:1")
