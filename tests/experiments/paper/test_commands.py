"""What ``--commands`` prints on COCO builds and trains, and each run is there once."""

import shlex

import pytest
import torch

from postnms.data.loader import Batch
from postnms.detectors import build_detector
from postnms.distributed.processes import get_accelerator
from postnms.experiments.jobs import command_lines
from postnms.experiments.paper.printed import TABLES
from postnms.experiments.paper.scales import SCALES
from postnms.experiments.state import jobs_of
from postnms.recipes import open_recipe, override, parse_changes
from postnms.training.optimizer import build_optimizer, set_learning_rate
from postnms.training.step import training_step
from tests.support.builders import truths
from tests.support.detectors import images
from tests.support.reproductions import RIVALS, plan_of

TINY = {
    "detector.min_size": 64,
    "detector.max_size": 96,
    "detector.backbone.name": "resnet18",
    "detector.backbone.fpn_channels": 8,
}
"""All else is as printed. ``tests/recipes/test_named.py`` has the backbones of Table 1."""


def printed(tmp_path):
    """Return the words of the trainings that the tables print, by folder of the run."""
    words = {}
    for name in TABLES:
        plan = plan_of(name, tmp_path / "runs", tmp_path / "coco")[1]
        for line in command_lines(jobs_of(plan)):
            first = shlex.split(line.split(" && ")[0])
            assert first[:2] == ["postnms", "train"]
            folder = first[first.index("--out") + 1]
            assert words.setdefault(folder, first) == first
    return words


def recipe_of(words):
    """Return the recipe that ``postnms train`` makes from its words."""
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    return open_recipe(words[2], parse_changes(sets))


def test_every_printed_recipe_on_coco_builds_and_trains_a_step(tmp_path):
    """On small images with few classes, with a thin pyramid and random weights."""
    recipes = {recipe_of(words).model_dump_json(exclude={"name"}): recipe_of(words)
               for words in printed(tmp_path).values()}  # fmt: skip
    rivals = len(RIVALS)
    # Of Tables 1 to 5: control and best stand beside the rivals, and the first two arms are shared.
    assert len(recipes) == 14 + rivals + 2 + 4 + 3 + 3
    # Recipes that differ in the backbone alone train in the same way.
    tiny = {}
    for recipe in recipes.values():
        thin = {} if recipe.detector.kind == "retinanet" else {"detector.box_head_width": 16}
        stage = {} if recipe.stage is None else {"stage.width": 16}
        head = {} if recipe.heads.iou is None else {"heads.iou.width": 16}
        changed = override(recipe, TINY | thin | stage | head)
        tiny[changed.model_dump_json(exclude={"name"})] = changed
    assert len(tiny) == 3 * 2 + rivals + 2 + 4 + 3 + 3
    for recipe in tiny.values():
        check_step(recipe)


def check_step(recipe):
    torch.manual_seed(0)
    network = recipe.detector.without_weights(3)
    detector = build_detector(network, recipe.stage, 3, heads=recipe.heads).train()
    optimizer = build_optimizer(detector, recipe.training)
    set_learning_rate(optimizer, recipe.training.lr)
    pyramid = next(detector.network.backbone.fpn.parameters())
    before = pyramid.clone()
    targets = truths([(8, 8, 40, 50), (30, 10, 60, 60)], [0, 2], [0, 1], num_images=2)
    batch = Batch(images((64, 80), (64, 80)), targets, [1, 2], [(64, 80), (64, 80)])
    losses = training_step(detector, optimizer, batch, recipe.training, get_accelerator())
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert not torch.equal(pyramid, before)
    assert ("loss_stage_cls" in losses) == (recipe.stage is not None)
    assert ("loss_iou" in losses) == (recipe.heads.iou is not None)


@pytest.mark.parametrize("scale", SCALES)
def test_table_6_and_figure_2_need_the_candidates_of_one_run_a_seed(scale, tmp_path):
    for name in ("table6", "figure2"):
        plan = plan_of(name, tmp_path, scale=scale, seeds=2)[1]
        jobs = [(job.words[0], job.makes.name) for job in jobs_of(plan)]
        assert jobs == [
            ("train", "paper_0"),
            ("dump", "paper_0.safetensors"),
            ("train", "paper_1"),
            ("dump", "paper_1.safetensors"),
        ]


def test_the_rescorers_of_table_2_are_trained_on_the_train_split(tmp_path):
    plan = plan_of("table2", tmp_path, tmp_path / "d")[1]
    (line,) = [line for line in command_lines(jobs_of(plan)) if "bare_0" in line]
    words = [shlex.split(part)[1:] for part in line.split(" && ")]
    root, data = str(tmp_path / "bare_0"), ["--data", str(tmp_path / "d")]
    file, train = f"{root}.safetensors", f"{root}_train.safetensors"
    names = ("sce", "contextual", "relation")
    sce, contextual, relation = (f"{root}_{name}_rescorer.safetensors" for name in names)
    assert words[1:] == [
        ["dump", root, *data, "--features", "--out", file],
        ["compare", file, *data, "--suppressor", "box_voting,soft_nms_linear", "--bootstrap", "0",
         "--out", f"{root}_compared"],
        ["dump", root, *data, "--split", "train", "--features", "--out", train],
        ["train-rescorer", "sce", train, *data, "--seed", "0", "--out", sce],
        ["rescore", sce, file, *data, "--out", f"{root}_sce_rescored.safetensors"],
        ["train-rescorer", "contextual", train, *data, "--seed", "0", "--out", contextual],
        ["rescore", contextual, file, *data, "--out", f"{root}_contextual_rescored.safetensors"],
        ["train-rescorer", "relation", train, *data, "--seed", "0", "--out", relation],
        ["rescore", relation, file, *data, "--out", f"{root}_relation_rescored.safetensors"],
    ]  # fmt: skip
