"""The experiments of the paper's tables: their arms, their settings, and what they share."""

import pytest

from postnms.errors import UserError
from postnms.experiments.paper.experiments import FROZEN, reproduction
from postnms.experiments.paper.printed import TABLES
from postnms.experiments.paper.scales import SCALES
from postnms.recipes import get_recipe
from tests.support.reproductions import RIVALS, plan_of


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_a_table_is_a_row_of_its_runs(name, scale, tmp_path):
    one, plan = plan_of(name, tmp_path, scale=scale, seeds=2)
    for row in one.table.rows:
        arm, _, found = row.side.partition(".")
        assert found in (*plan.rows(arm), *plan.further_rows(arm)), row
    asked = [row for row in one.table.rows if row.reference]
    sides = {row.label: row.side for row in one.table.rows}
    assert [(f"{a.arm}.{a.row}", f"{b.arm}.{b.row}") for a, b in plan.differences] == [
        (row.side, sides[row.reference]) for row in asked
    ]
    assert plan.experiment.config.seeds == (0, 1)
    used = {row.side.partition(".")[0] for row in one.table.rows}
    assert used == set(plan.counted) or name == "figure2"


@pytest.mark.parametrize("scale", SCALES)
def test_an_arm_has_the_same_settings_in_all_tables(scale, tmp_path):
    recipes = {}
    for name in TABLES:
        for run in plan_of(name, tmp_path, scale=scale)[1].runs:
            assert recipes.setdefault(run.arm, run.recipe) == run.recipe, (name, run.arm)
    settings = [recipe.model_dump_json(exclude={"name"}) for recipe in recipes.values()]
    assert len(set(settings)) == len(settings)  # No two arms train the same run.


ABLATIONS = {  # Table 3 to 5 and the control: what differs from the stage of the paper.
    "bare": {"stage": None},
    "without_dcl": {"stage.decoupling": False},
    "without_cef": {"stage.encoding": "none"},
    "without_irc": {"stage.representative_rows": False},
    "without_iac": {"stage.members": False},
    "intersection": {"stage.representative": "intersection"},
    "mean": {"stage.representative": "mean"},
    "vote": {"stage.representative": "vote"},
    "weighting_none": {"stage.weighting": "none"},
    "weighting_cls": {"stage.weighting": "cls"},
    "weighting_loc": {"stage.weighting": "loc"},
    "control": {"stage.clusters": False},
    "paper": {},
}


def test_ablations_change_one_field_of_the_papers_stage(tmp_path):
    tables = ("table2", "table3", "table4", "table5")
    runs = {run.arm: run for name in tables for run in plan_of(name, tmp_path)[1].runs}
    for arm, changes in ABLATIONS.items():
        assert runs[arm].recipe == get_recipe("faster_rcnn_r50_fpn_1x", changes), arm
    assert runs.keys() - ABLATIONS.keys() == {"best", *RIVALS}


def test_the_recipe_on_coco_is_the_papers(tmp_path):
    for name in TABLES:
        for run in plan_of(name, tmp_path)[1].runs:
            training, detector = run.recipe.training, run.recipe.detector
            assert (training.iterations, training.batch_size, training.lr) == (90_000, 16, 0.02)
            assert training.steps == (60_000, 80_000)
            assert not run.recipe.data.images_without_objects
            beta = getattr(detector, "box_smooth_l1_beta", None) or detector.smooth_l1_beta
            assert beta == (0.11 if detector.kind == "retinanet" else 1.0)


def test_small_recipes_take_the_place_of_those_for_coco(tmp_path):
    _, plan = plan_of("table1", tmp_path, scale="small")
    assert {run.arm: run.base.name for run in plan.runs} == {
        "bare": "faster_rcnn_r18_small_paper",
        "paper": "faster_rcnn_r18_small_paper",
        "retinanet_bare": "retinanet_r18_small",
        "retinanet": "retinanet_r18_small",
        "cascade_bare": "cascade_rcnn_r18_small",
        "cascade": "cascade_rcnn_r18_small",
    }
    labels = [row.label for row in reproduction("table1", "small").table.rows]
    assert labels[:2] == [
        "Faster R-CNN R50 (here R18), NMS", "Faster R-CNN R50 (here R18), post-NMS"
    ]  # fmt: skip
    assert len(labels) == 8


def test_of_pretrained_detectors_there_is_faster_rcnn_alone(tmp_path):
    table, plan = plan_of("table1", tmp_path, scale="pretrained")
    assert {run.arm: run.base.name for run in plan.runs} == {
        "bare": "finetune_paper", "paper": "finetune_paper"
    }  # fmt: skip
    label = "Faster R-CNN R50 (here EfficientNet-lite0)"
    assert [row.label for row in table.table.rows] == [f"{label}, NMS", f"{label}, post-NMS"]


@pytest.mark.parametrize(
    ("scale", "recipe"), [("small", "faster_rcnn_r18_small"), ("pretrained", "finetune")]
)
def test_the_stage_at_its_best_is_that_of_the_recipe_with_it(scale, recipe, tmp_path):
    best = next(r for r in plan_of("table2", tmp_path, scale=scale)[1].runs if r.arm == "best")
    expected = get_recipe(recipe)
    assert best.recipe.model_copy(update={"name": expected.name}) == expected


def test_the_learned_rivals_of_table_2_have_these_settings():
    arms = reproduction("table2").experiment.config.arms
    assert {name: (arms[name].set, arms[name].methods, arms[name].row) for name in RIVALS} == {
        "iou_net": (("stage=null", "heads.iou={}"), (), "iou_guided_nms"),
        "softer": (
            ("stage=null", "detector.box_coding=edges", "detector.box_loss=kl"),
            ("variance_voting",),
            "variance_voting",
        ),
        "pisa": (("stage=null", "detector.pisa={}"), (), None),
    }  # fmt: skip
    assert arms["bare"].rescorers == {"sce": (), "contextual": (), "relation": ()}
    for scale in ("small", "pretrained"):
        small = reproduction("table2", scale).experiment.config.arms
        assert small["iou_net"].set == (*arms["iou_net"].set, *SCALES[scale].heads)
        assert small["bare"].rescorers == SCALES[scale].rescorers
        assert small["pisa"].set == arms["pisa"].set


def test_the_printed_gains_are_the_papers():
    """Figures that the text of the paper names, from two rows each."""
    figures = {
        name: {row.label: row.figures.get("AP") for row in table.rows}
        for name, table in TABLES.items()
    }
    gains = {
        row.label: round(row.figures["AP"] - figures["table1"][row.reference], 1)
        for row in TABLES["table1"].rows
        if row.reference
    }
    assert list(gains.values()) == [1.9, 1.7, 1.5, 1.3, 1.3, 1.2, 0.8, 0.6]
    assert figures["table2"]["post-NMS"] == figures["table3"]["full, post-NMS"] == 38.6
    assert figures["table4"]["union"] == figures["table5"]["all"] == 38.6
    assert figures["table3"]["full, NMS"] == figures["table6"]["(1, 0, 0), not moved"] == 37.0
    ar = {name: TABLES[name].rows[-1].figures["AR100"] for name in ("table4", "table5")}
    assert ar == {"table4": 53.1, "table5": 53.1}


@pytest.mark.parametrize("scale", SCALES)
def test_of_a_frozen_detector_all_rows_but_those_of_other_detectors_train_a_part(scale, tmp_path):
    """The arms are those of the same table without it, and a bare detector where there is none."""
    for name in TABLES:
        _, plain = plan_of(name, tmp_path, scale=scale)
        _, plan = plan_of(name, tmp_path, scale=scale, frozen=True)
        arms, before = plan.experiment.config.arms, plain.experiment.config.arms
        assert list(arms) == [*(["bare"] if "bare" not in before else []), *before]
        for run in plan.runs:
            arm, training = arms[run.arm], run.recipe.training
            parts = arm.model_dump(exclude={"start_from", "freeze"})
            part = arm.start_from is not None
            length = SCALES[scale].frozen if part else ()
            if run.arm in before:
                given = before[run.arm].model_dump(exclude={"start_from", "freeze"})
                assert parts == {**given, "set": (*given["set"], *length)}
            if run.arm.endswith("bare") or run.arm in ("softer", "pisa"):
                assert (arm.start_from, training.freeze) == (None, "none")
                continue
            assert training.freeze == "detector"
            start = plan.of_arm(arm.start_from)[0]
            assert run.after == start.folder.root
            assert start.recipe.detector == run.recipe.detector
            assert start.recipe.stage is None
            assert not start.recipe.heads.rows
        assert FROZEN in plan.experiment.config.text
        assert plan.differences == plain.differences


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("change", "field", "value"),
    [("training.iterations=7", "iterations", 7), ("training.steps=[5]", "steps", (5,))],
)
def test_changes_come_into_every_arm(change, field, value, scale, frozen, tmp_path):
    _, plan = plan_of("table3", tmp_path, scale=scale, changes=[change], frozen=frozen)
    assert {getattr(run.recipe.training, field) for run in plan.runs} == {value}


def test_changes_of_heads_count_more_than_the_settings_of_a_scale(tmp_path):
    plan = plan_of("table2", tmp_path, scale="small", changes=["heads.samples=64"])[1]
    heads = {run.arm: run.recipe.heads for run in plan.runs}
    assert {part.samples for part in heads.values()} == {64}
    assert heads["iou_net"].iou.width == 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tabel3",), r"table: no table 'tabel3' \(did you mean 'table3'\?\)"),
        (("table3", "coco", 0), "seeds: expected at least 1, got 0"),
        (("table3", "coco", 1, ["training.lr=x"]), r"recipe.training.lr: .*got 'x'"),
        (("table3", "coco", 1, ["lr"]), "changes: lr: expected PATH=VALUE"),
        (("table3", "coco", 1, ["seed=3"]), "^changes: seed: expected none, as the number of "),
        (
            ("table4", "coco", 1, ["stage.representative=mean"]),
            "^changes: stage.representative: expected a field by which no rows differ, but these "
            "arms set it: intersection, vote$",
        ),
        (
            ("table2", "small", 1, ["stage=null"]),
            '^changes: expected changes that leave the row "post-NMS" of table2, for which paper '
            "needs post_nms; it has nms$",
        ),
    ],
)
def test_what_is_wrong_is_named(arguments, message):
    with pytest.raises(UserError, match=message):
        reproduction(*arguments)
