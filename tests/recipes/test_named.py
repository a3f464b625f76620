"""The named recipes are the paper's: every row of its Table 1 builds, each network trains."""

import json
import re

import pytest
import torch

from postnms.data.loader import Batch
from postnms.detectors import build_detector
from postnms.detectors.parts.pisa import PISAConfig
from postnms.distributed.processes import get_accelerator
from postnms.errors import UserError
from postnms.recipes import RECIPES, Recipe, describe, get_recipe, override
from postnms.training.optimizer import build_optimizer, set_learning_rate
from postnms.training.step import training_step
from tests.support.builders import truths
from tests.support.detectors import images

SMALL = {"detector.min_size": 64, "detector.max_size": 96, "stage.width": 32}
THIN = {"detector.box_head_width": 32}


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


@pytest.mark.parametrize("name", [name for name in RECIPES if "_1x" in name])
def test_box_losses_of_table_1_are_those_of_the_papers_baselines(name):
    detector = get_recipe(name).detector
    if name.startswith("retinanet"):
        assert detector.smooth_l1_beta == 0.11
    else:
        assert (detector.rpn_smooth_l1_beta, detector.box_smooth_l1_beta) == (1 / 9, 1.0)


def test_other_box_losses_are_torchvisions():
    for name in ("demo", "faster_rcnn_r18_small", "cascade_rcnn_r18_small"):
        detector = get_recipe(name).detector
        assert (detector.rpn_smooth_l1_beta, detector.box_smooth_l1_beta) == (1 / 9, 1 / 9)
    assert get_recipe("retinanet_r18_small").detector.smooth_l1_beta == 0


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


@pytest.mark.parametrize("name", TABLE_1)
def test_every_row_of_table_1_builds(name):
    recipe = get_recipe(name)
    assert recipe.stage.width == getattr(recipe.detector, "box_head_width", 1024) == 1024
    kind, backbone, scoring = TABLE_1[name]
    assert (recipe.detector.kind, recipe.detector.backbone.name) == (kind, backbone)
    assert getattr(recipe.detector, "scoring", "last") == scoring
    assert recipe.training == get_recipe("faster_rcnn_r50_fpn_1x").training
    assert recipe.detector.backbone.weights == "imagenet"
    # Weights of this device have a shape and no values, so that 130 million cost nothing.
    with torch.device("meta"):
        detector = build_detector(recipe.detector.without_weights(80), recipe.stage, 80)
    trained = [
        part
        for part, parameter in detector.network.backbone.body.named_parameters()
        if parameter.requires_grad
    ]
    assert {part.split(".")[0] for part in trained} == {"layer2", "layer3", "layer4"}
    assert not any("bn" in part for part in trained)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "faster_rcnn_r50_fpn_1x",
        "faster_rcnn_x101_fpn_1x",
        "retinanet_r101_fpn_1x",
        "cascade_rcnn_r101_fpn_1x",
        "cascade_rcnn_r101_fpn_1x_mean",
    ],
)
def test_each_detector_and_each_backbone_of_table_1_trains(name):
    """On small images, with thin heads and random weights; all else is as the recipe says."""
    recipe = override(get_recipe(name), SMALL | (THIN if "rcnn" in name else {}))
    torch.manual_seed(0)
    detector = build_detector(recipe.detector.without_weights(80), recipe.stage, 80).train()
    accelerator = get_accelerator()
    optimizer = build_optimizer(detector, recipe.training)
    set_learning_rate(optimizer, recipe.training.lr)
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


def test_the_recipes_on_coco_alone_leave_images_without_objects_out():
    trained_on = {name: get_recipe(name).data.images_without_objects for name in RECIPES}
    assert trained_on == {name: not re.search("_[12]x", name) for name in RECIPES}


SOFTER = {"box_coding": "edges", "box_loss": "kl"}


@pytest.mark.parametrize(
    ("name", "base", "changed"),
    [
        ("softer_nms_r50_fpn_2x", "faster_rcnn_r50_fpn_1x", SOFTER),
        ("softer_nms_r18_small", "faster_rcnn_r18_small_paper", SOFTER),
        ("pisa_r50_fpn_1x", "faster_rcnn_r50_fpn_1x", {"pisa": PISAConfig()}),
        ("pisa_r18_small", "faster_rcnn_r18_small_paper", {"pisa": PISAConfig()}),
    ],
)
def test_rivals_are_the_papers_detector_but_for_what_defines_them(name, base, changed):
    recipe, plain = get_recipe(name), get_recipe(base)
    assert recipe.stage is None
    assert recipe.detector == plain.detector.model_copy(update=changed)
    assert recipe.data == plain.data
    twice = {"iterations": 180_000, "steps": (120_000, 160_000)} if "_2x" in name else {}
    assert recipe.training == plain.training.model_copy(update=twice)


def test_unknown_recipes_are_named_with_the_nearest():
    with pytest.raises(UserError, match=r"recipe 'dmo': no such recipe \(did you mean 'demo'\?\)"):
        get_recipe("dmo")
