import json

import pytest
from pydantic import ValidationError

from postnms.data.scenes import ScenesConfig
from postnms.errors import UserError
from postnms.recipes import RECIPES, Recipe, describe, get_recipe, override


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_named_described_and_survives_json(name):
    recipe = get_recipe(name)
    assert recipe.name == name
    assert "postnms" in describe(name)
    assert Recipe.parse(json.loads(recipe.model_dump_json()), "recipe") == recipe


def test_the_papers_recipe_is_the_papers():
    training = get_recipe("faster_rcnn_r50_fpn_1x").training
    assert (training.iterations, training.batch_size, training.lr, training.momentum) == (90_000, 16, 0.02, 0.9)
    assert training.steps == (60_000, 80_000)
    stage = get_recipe("faster_rcnn_r50_fpn_1x").stage
    assert stage is not None
    assert (stage.fusion, stage.weighting, stage.representative) == ((0.8, 0.1, 0.1), "all", "union")
    assert get_recipe("faster_rcnn_r101_fpn_1x").detector.backbone.name == "resnet101"


def test_overrides_reach_any_field():
    changes = ["stage.weighting=cls", "training.steps=[10, 20]", "detector.backbone.weights=b.pth", "seed=7"]
    recipe = get_recipe("faster_rcnn_r50_fpn_1x", changes)
    assert recipe.stage is not None
    assert recipe.stage.weighting == "cls"
    assert recipe.training.steps == (10, 20)
    assert recipe.detector.backbone.weights == "b.pth"
    assert recipe.seed == 7


def test_the_stage_can_be_taken_away_and_put_back():
    bare = get_recipe("demo", ["stage=null"])
    assert bare.stage is None
    again = override(bare, ["stage.width=8"])
    assert again.stage is not None
    assert (again.stage.width, again.stage.weighting) == (8, "all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stage.weightng=cls", r"recipe.stage.weightng: no such field \(did you mean 'weighting'\?\)"),
        ("stag.weighting=cls", r"--set stag.weighting: no field 'stag' \(did you mean 'stage'\?\)"),
        ("training.lr=fast", "recipe.training.lr: .*valid number.*got 'fast'"),
        ("training.lr=-1", "recipe.training.lr: .*greater than 0, got -1"),
        ("seed.x=1", "--set seed.x: 'seed' has no fields, it is 0"),
        ("seed", "--set seed: expected PATH=VALUE"),
        ("detector.backbone.name=resnet19", "recipe.detector.backbone.name: .*'resnet18'.*got 'resnet19'"),
        ("detector.anchor_sizes=[8]", "recipe.detector: .*expected 5 sizes"),
        ("detector.aspect_ratios=[]", "recipe.detector.aspect_ratios: .*at least 1 item"),
        ("detector.backbone.norm=frozen", "recipe.detector.backbone: .*random ones .* cannot be frozen.*norm 'frozen'"),
        ("training.iterations=true", "recipe.training.iterations: .*valid integer, got True"),
        ("training.lr=Infinity", "recipe.training.lr: .*finite number, got inf"),
        ("seed=4294967296", "recipe.seed: .*less than 4294967296"),
        ("data.scenes.radius=[0,0.1]", "recipe.data.scenes.radius.0: .*greater than 0"),
        ("data.scenes.min_visible=0", "recipe.data.scenes.min_visible: .*greater than 0"),
    ],
)
def test_bad_overrides_are_named(change, message):
    with pytest.raises(UserError, match=message):
        get_recipe("demo", [change])


def test_unknown_recipes_are_named_with_the_nearest():
    with pytest.raises(UserError, match=r"recipe 'dmo': no such recipe \(did you mean 'demo'\?\)"):
        get_recipe("dmo")


def test_recipes_are_frozen_and_tell_their_differences():
    recipe = get_recipe("demo")
    with pytest.raises(ValidationError, match="valid integer"):
        ScenesConfig(train="4")  # pyright: ignore
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 3  # pyright: ignore
    other = override(recipe, ["stage.width=8", "seed=2"])
    assert recipe.differences(recipe) == []
    assert sorted(recipe.differences(other)) == ["seed: 0 here, 2 there", "stage.width: 256 here, 8 there"]
