"""Recipes: what of them can be changed, what cannot, and how they differ."""

import pytest
from pydantic import ValidationError

from postnms.data.scenes.generator import ScenesConfig
from postnms.errors import UserError
from postnms.recipes import Recipe, get_recipe, override, parse_changes


def test_a_frozen_detector_without_a_stage_is_nothing_to_train():
    with pytest.raises(
        UserError, match=r"^recipe: training\.freeze: 'detector' leaves nothing.*got stage null$"
    ):
        get_recipe("demo", {"stage": None, "training.freeze": "detector"})
    with pytest.raises(
        UserError, match=r"'detector' needs its weights, training\.start_from; got random ones"
    ):
        get_recipe("demo", {"training.freeze": "detector"})
    with pytest.raises(
        UserError, match=r"'detector' needs stage\.candidates 'proposals', got 'sampled'"
    ):
        get_recipe("demo", {"training.freeze": "detector", "stage.candidates": "sampled"})
    with pytest.raises(
        UserError, match=r"recipe\.detector: expected a field 'kind' that says which"
    ):
        get_recipe("demo", {"detector": {"min_size": 96}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "detector.kind=frcnn",
            r"recipe\.detector\.kind: expected one of 'faster_rcnn', 'retinanet', .*, got 'frcnn'",
        ),
        (
            "detector.box_nms_tresh=0.4",
            r"recipe\.detector\.box_nms_tresh: no such field \(did you mean 'box_nms",
        ),
        (
            "detector.backbone.nam=x",
            r"recipe\.detector\.backbone\.nam: no such field \(did you mean 'name'\?\)",
        ),
    ],
)
def test_mistakes_in_one_of_several_kinds_of_detector(change, message):
    with pytest.raises(UserError, match=message):
        get_recipe("cascade_rcnn_r18_small", parse_changes([change]))


def test_overrides_reach_any_field():
    changes = [
        "stage.weighting=cls",
        "training.steps=[10, 20]",
        "detector.backbone.weights=b.pth",
        "seed=7",
    ]
    recipe = get_recipe("faster_rcnn_r50_fpn_1x", parse_changes(changes))
    assert recipe.stage is not None
    assert recipe.stage.weighting == "cls"
    assert recipe.training.steps == (10, 20)
    assert recipe.detector.backbone.weights == "b.pth"
    assert recipe.seed == 7


def test_of_two_changes_of_a_field_the_later_one_counts():
    changes = parse_changes(["seed=1", "name=mine", "seed=[2]"])
    assert list(changes.items()) == [("name", "mine"), ("seed", [2])]


def test_the_stage_can_be_taken_away_and_put_back():
    bare = get_recipe("demo", {"stage": None})
    assert bare.stage is None
    again = override(bare, {"stage.width": 8})
    assert again.stage is not None
    assert (again.stage.width, again.stage.weighting) == (8, "all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "stage.weightng=cls",
            r"recipe.stage.weightng: no such field \(did you mean 'weighting'\?\)",
        ),
        (
            "stag.weighting=cls",
            r"changes: stag.weighting: no field 'stag' \(did you mean 'stage'\?\)",
        ),
        ("training.lr=fast", "recipe.training.lr: .*valid number.*got 'fast'"),
        ("training.lr=-1", "recipe.training.lr: .*greater than 0, got -1"),
        ("seed.x=1", "changes: seed.x: 'seed' has no fields, it is 0"),
        ("seed", "changes: seed: expected PATH=VALUE"),
        (
            "detector.backbone.name=resnet19",
            "recipe.detector.backbone.name: .*'resnet18'.*got 'resnet19'",
        ),
        ("detector.anchor_sizes=[8]", "recipe.detector.anchor_sizes: expected 5 sizes"),
        ("detector.aspect_ratios=[]", "recipe.detector.aspect_ratios: .*at least 1 item"),
        (
            "detector.backbone.norm=frozen",
            "recipe.detector.backbone: .*random ones .* cannot be frozen.*norm 'frozen'",
        ),
        (
            "training.iterations=true",
            "recipe.training.iterations: expected a number of iterations .*, got True",
        ),
        ("training.lr=Infinity", "recipe.training.lr: .*finite number, got inf"),
        ("seed=4294967296", "recipe.seed: .*less than 4294967296"),
        ("data.scenes.radius=[0,0.1]", "recipe.data.scenes.radius.0: .*greater than 0"),
        ("data.scenes.min_visible=0", "recipe.data.scenes.min_visible: .*greater than 0"),
    ],
)
def test_bad_overrides_are_named(change, message):
    with pytest.raises(UserError, match=message):
        get_recipe("demo", parse_changes([change]))


DEEP = f"{'[' * 900}{']' * 900}"
ABSURD = [
    ("training.lr=1e400", "recipe.training.lr: .*finite number, got inf"),
    (f"training.lr={'9' * 400}", "recipe.training.lr: expected an integer of at most 64 bits"),
    (f"training.iterations={2**63}", "iterations: expected an integer of at most 64 bits"),
    (
        f"training.iterations={'9' * 5000}",
        "recipe.training.iterations: expected a number of iterations .*, got '99",
    ),
    (
        "training.steps=[1e400]",
        r"recipe.training.steps.0: expected a number of iterations .*, got inf",
    ),
    (f"training.steps=[1, {2**70}]", r"recipe.training.steps.1: .*at most 64 bits"),
    (f"stage={DEEP}", "^recipe: (nests too deeply|invalid JSON: recursion limit)"),
    (f"stage={'[' * 10**5}", r"recipe.stage: .*object, got '\[\[\["),
    ('name="\\ud800"', "^recipe: invalid JSON: "),
    (f"{'x' * 10**5}=3", "recipe.'xxx.*x': no such field"),
    ("data.\x1b[31mred=1", r"recipe\.data\.'\\x1b\[31mred': no such field"),
    ("\x1b[31m.red=1", r"changes: '\\x1b\[31m.red': no field '\\x1b\[31m'"),
    ("\x1b[31mred", r"changes: '\\x1b\[31mred': expected PATH=VALUE"),
    (f"stage.weighting={'a' * 10**5}", "recipe.stage.weighting: .*got 'aaaa"),
    (f'detector={{"kind": "{"b" * 10**5}"}}', "recipe.detector.kind: .*got 'bbbb"),
    (f"training.steps={['x'] * 1000}".replace("'", '"'), "steps.2: .*; and 997 more mistakes$"),
]


@pytest.mark.parametrize("number", range(len(ABSURD)))
def test_absurd_values_are_one_short_line(number):
    change, message = ABSURD[number]
    with pytest.raises(UserError, match=message) as mistake:
        get_recipe("demo", parse_changes([change]))
    assert str(mistake.value).isprintable()
    assert len(str(mistake.value)) < 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "recipe.json: input should be an object, got \\[\\]"),
        (None, "recipe.json: input should be an object, got None"),
        ({"training": 3}, "recipe.json.training: input should be an object, got 3"),
        ({"training": {"iterations": 3}, "seed": {}}, "recipe.json.seed: .*integer, got {}"),
        ({"training": {"iterations": 3}, "data": {"scenes": {"objects": 3}}}, "objects: .*got 3"),
    ],
)
def test_a_recipe_of_another_form_names_the_field(content, message):
    with pytest.raises(UserError, match=message):
        Recipe.parse(content, "recipe.json")


def test_recipes_are_frozen_and_tell_their_differences():
    recipe = get_recipe("demo")
    with pytest.raises(ValidationError, match="valid integer"):
        ScenesConfig(train="4")  # pyright: ignore
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 3  # pyright: ignore
    other = override(recipe, {"stage.width": 8, "seed": 2})
    assert recipe.differences(recipe) == []
    assert sorted(recipe.differences(other)) == [
        "seed: 0 here, 2 there",
        "stage.width: 256 here, 8 there",
    ]
