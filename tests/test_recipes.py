import json

import pytest
import torch
from pydantic import ValidationError

from postnms.data.loader import Batch
from postnms.data.scenes.generator import ScenesConfig
from postnms.detectors import build_detector
from postnms.distributed.processes import get_accelerator
from postnms.errors import UserError
from postnms.recipes import RECIPES, Recipe, describe, get_recipe, override
from postnms.training.optimizer import build_optimizer, set_learning_rate
from postnms.training.step import training_step
from tests.detectors.cases import images
from tests.test_matching import truths


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_named_described_and_survives_json(name):
    recipe = get_recipe(name)
    assert recipe.name == name
    assert "postnms" in describe(name)
    assert Recipe.parse(json.loads(recipe.model_dump_json()), "recipe") == recipe


def test_the_papers_recipe_is_the_papers():
    training = get_recipe("faster_rcnn_r50_fpn_1x").training
    assert (training.iterations, training.batch_size, training.lr, training.momentum) == (
        90_000,
        16,
        0.02,
        0.9,
    )
    assert training.steps == (60_000, 80_000)
    stage = get_recipe("faster_rcnn_r50_fpn_1x").stage
    assert stage is not None
    assert (stage.fusion, stage.weighting, stage.representative) == (
        (0.8, 0.1, 0.1),
        "all",
        "union",
    )
    assert get_recipe("faster_rcnn_r101_fpn_1x").detector.backbone.name == "resnet101"


TABLE_1 = {
    "faster_rcnn_r50_fpn_1x": ("faster_rcnn", "resnet50", "last"),
    "faster_rcnn_r101_fpn_1x": ("faster_rcnn", "resnet101", "last"),
    "faster_rcnn_x101_fpn_1x": ("faster_rcnn", "resnext101_32x8d", "last"),
    "retinanet_r50_fpn_1x": ("retinanet", "resnet50", "last"),
    "retinanet_r101_fpn_1x": ("retinanet", "resnet101", "last"),
    "retinanet_x101_fpn_1x": ("retinanet", "resnext101_32x8d", "last"),
    "cascade_rcnn_r101_fpn_1x": ("cascade_rcnn", "resnet101", "last"),
    "cascade_rcnn_r101_fpn_1x_mean": ("cascade_rcnn", "resnet101", "mean"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE_1)
def test_every_row_of_table_1_builds_and_trains(name):
    """On small images and with weights out of reach; all else as the recipe says: fixed norm, three layers trained."""
    recipe = get_recipe(name, ["detector.min_size=64", "detector.max_size=96"])
    kind, backbone, scoring = TABLE_1[name]
    assert (recipe.detector.kind, recipe.detector.backbone.name) == (kind, backbone)
    assert getattr(recipe.detector, "scoring", "last") == scoring
    assert recipe.training == get_recipe("faster_rcnn_r50_fpn_1x").training
    assert recipe.detector.backbone.weights == "imagenet"
    torch.manual_seed(0)
    detector = build_detector(recipe.detector.without_weights(), recipe.stage, 80).train()
    trained = [
        part
        for part, parameter in detector.network.backbone.body.named_parameters()
        if parameter.requires_grad
    ]
    assert {part.split(".")[0] for part in trained} == {"layer2", "layer3", "layer4"}
    assert not any("bn" in part for part in trained)
    accelerator = get_accelerator()
    optimizer = build_optimizer(detector, recipe.training)
    set_learning_rate(optimizer, 1000, recipe.training)
    pyramid = next(detector.network.backbone.fpn.parameters())
    before = pyramid.clone()
    targets = truths([(8, 8, 40, 50), (30, 10, 90, 60)], [3, 70], [0, 1], num_images=2)
    batch = Batch(images((64, 80), (70, 96)), targets, [1, 2], [(64, 80), (70, 96)])
    losses = training_step(detector, optimizer, batch, recipe.training, accelerator)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert not torch.equal(pyramid, before)
    assert {"loss_stage_cls", "loss_stage_loc"} <= losses.keys()


def test_cascade_recipes_differ_in_the_scores_alone():
    first, second = (
        get_recipe("cascade_rcnn_r101_fpn_1x"),
        get_recipe("cascade_rcnn_r101_fpn_1x_mean"),
    )
    assert [text.split(":")[0] for text in first.differences(second)] == [
        "name",
        "detector.scoring",
    ]


def test_a_frozen_detector_without_a_stage_is_nothing_to_train():
    with pytest.raises(
        UserError, match=r"^recipe: training\.freeze: 'detector' leaves nothing.*got stage null$"
    ):
        get_recipe("demo", ["stage=null", "training.freeze=detector"])
    with pytest.raises(
        UserError, match=r"'detector' needs its weights, training\.start_from; got random ones"
    ):
        get_recipe("demo", ["training.freeze=detector"])
    with pytest.raises(
        UserError, match=r"'detector' needs stage\.candidates 'proposals', got 'sampled'"
    ):
        get_recipe("demo", ["training.freeze=detector", "stage.candidates=sampled"])
    with pytest.raises(
        UserError, match=r"recipe\.detector: expected a field 'kind' that says which"
    ):
        get_recipe("demo", ['detector={"min_size": 96}'])


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
        get_recipe("cascade_rcnn_r18_small", [change])


def test_overrides_reach_any_field():
    changes = [
        "stage.weighting=cls",
        "training.steps=[10, 20]",
        "detector.backbone.weights=b.pth",
        "seed=7",
    ]
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
        (
            "stage.weightng=cls",
            r"recipe.stage.weightng: no such field \(did you mean 'weighting'\?\)",
        ),
        ("stag.weighting=cls", r"--set stag.weighting: no field 'stag' \(did you mean 'stage'\?\)"),
        ("training.lr=fast", "recipe.training.lr: .*valid number.*got 'fast'"),
        ("training.lr=-1", "recipe.training.lr: .*greater than 0, got -1"),
        ("seed.x=1", "--set seed.x: 'seed' has no fields, it is 0"),
        ("seed", "--set seed: expected PATH=VALUE"),
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
    assert sorted(recipe.differences(other)) == [
        "seed: 0 here, 2 there",
        "stage.width: 256 here, 8 there",
    ]
