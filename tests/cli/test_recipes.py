"""``postnms recipes`` lists the recipes and shows one."""

import json


def test_recipes_are_listed_and_shown_as_json(postnms):
    assert "faster_rcnn_r50_fpn_1x" in postnms("recipes", "list")[1]
    status, shown, about = postnms(
        "recipes", "show", "faster_rcnn_r50_fpn_1x", "--set", "stage.weighting=cls"
    )
    assert status == 0
    assert json.loads(shown)["stage"]["weighting"] == "cls"
    assert "accelerate launch" in about
