"""The runs that an experiment asks for, and their command lines."""

import pytest

from postnms.cli import train as train_verb
from postnms.errors import UserError
from postnms.evaluation.results import Evaluation
from postnms.experiments.config import BEST
from postnms.experiments.plan import Side, describe_arm, rows_of
from postnms.experiments.steps import steps_of
from postnms.recipes import get_recipe
from tests.support.experiments import HEURISTICS, planned

ARMS = {
    "late": {"start_from": "joint", "freeze": "detector", "set": ["stage.fusion=[1, 0, 0]"]},
    "joint": {},
    "bare": {"set": ["stage=null"]},
    "again": {"start_from": "late", "set": ["stage.second_nms=0.5", "training.iterations=9"]},
    "dense": {"recipe": "retinanet_r18_small", "set": ["stage=null"]},
}


def test_runs_are_in_the_order_of_the_seeds_and_after_the_runs_they_start_from(tmp_path):
    plan = planned(tmp_path, arms=ARMS, differences=[])
    order = ["joint", "late", "bare", "again", "dense"]
    assert [run.name for run in plan.runs] == [f"{arm}_{seed}" for seed in (0, 3) for arm in order]
    starts = {run.name: run.after for run in plan.runs if run.after}
    root = tmp_path / "mine"
    assert starts == {
        f"{arm}_{seed}": root / f"{start}_{seed}"
        for arm, start in (("late", "joint"), ("again", "late"))
        for seed in (0, 3)
    }
    assert [run.name for run in plan.of_arm("bare")] == ["bare_0", "bare_3"]


@pytest.mark.parametrize("own", [True, False])
def test_no_suppressor_is_replayed_that_the_runs_have_a_row_of(tmp_path, own):
    arms = {"stage": {"set": ["suppressors=wbf:iou=0.6"], "methods": ["wbf"] if own else []}}
    heuristics = {"arms": ["stage"], "methods": ["box_voting" if own else "wbf"]}
    where = "arms.stage.methods" if own else "heuristics"
    with pytest.raises(UserError, match=rf"{where}: wbf is a row of the runs of stage already"):
        planned(tmp_path, arms=arms, heuristics=heuristics, differences=[])


def test_a_recipe_is_the_one_that_train_makes_from_the_command_line(tmp_path, postnms, monkeypatch):
    """The verb itself reads the words, and gives what it would train."""
    plan = planned(tmp_path, tmp_path / "data", arms=ARMS, differences=[])
    trained = []

    def note(recipe, run, data, *, resume):
        trained.append((recipe, run, data, resume))
        return None, Evaluation({}), None

    monkeypatch.setattr(train_verb, "run_training", note)
    for run in plan.runs:
        status, _, shown = postnms(*run.words)
        assert status == 0, shown
        assert trained.pop() == (run.recipe, run.folder, tmp_path / "data", False)
    late, again, dense = (plan.of_arm(arm)[1].recipe for arm in ("late", "again", "dense"))
    assert (late.seed, late.training.iterations, late.training.freeze) == (3, 20, "detector")
    assert late.stage.fusion == (1, 0, 0)
    assert late.training.start_from == str(tmp_path / "mine" / "joint_3")
    assert (again.training.iterations, again.training.freeze) == (9, "none")
    assert (dense.name, dense.stage) == ("retinanet_r18_small", None)


def test_the_data_of_the_command_line_take_the_place_of_those_of_the_file(tmp_path):
    asked = {"arms": ["a"], "methods": ["wbf"]}
    named = planned(
        tmp_path, data=tmp_path / "other", arms={"a": {}}, differences=[], heuristics=asked
    )
    assert named.data == tmp_path / "other"
    assert planned(tmp_path, differences=[]).data is None
    words = [step.words for step in steps_of(named, named.runs[0])]
    assert [line[line.index("--data") + 1] for line in words] == [str(tmp_path / "other")] * 2


def test_sides_are_rows_of_runs_or_suppressors_whose_names_may_have_dots(tmp_path):
    differences = [["stage.nms:iou=0.9", "stage.best_heuristic"], ["stage.post_nms", "bare.nms"]]
    plan = planned(tmp_path, heuristics=HEURISTICS, differences=differences)
    assert plan.differences == (
        (Side("stage", "nms:iou=0.9"), Side("stage", BEST)),
        (Side("stage", "post_nms"), Side("bare", "nms")),
    )
    assert [plan.replays(run.arm) for run in plan.runs] == [False, True] * 2
    _, compare = (step.words for step in steps_of(plan, plan.runs[1]))
    assert compare[compare.index("--suppressor") + 1] == "soft_nms_linear,nms:iou=0.9"


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({"stage": None}, ("nms",)),
        ({}, ("nms", "post_nms", "post_nms+soft_nms_linear")),
        (
            {"stage.suppressor": None, "stage.second_nms": 0.5},
            ("nms", "post_nms", "post_nms_second_nms"),
        ),
        (
            {"stage.suppressor": "soft_nms_linear:iou=0.4", "stage.clusters": False},
            ("nms", "post_nms", "post_nms+soft_nms_linear"),
        ),
        ({"stage": None, "heads.iou": {}}, ("nms", "iou_guided_nms", "iou_net")),
        (
            {"heads.iou": {"refine_steps": 0}, "heads.density": {}, "suppressors": ["wbf:iou=0.6"]},
            (
                "nms",
                "wbf",
                "iou_guided_nms",
                "adaptive_nms",
                "post_nms",
                "post_nms+soft_nms_linear",
            ),
        ),
    ],
)
def test_the_rows_of_a_recipe_are_those_of_its_detector(changes, rows):
    from tests.support.runs import tiny

    recipe = get_recipe("demo", changes)
    assert rows_of(recipe) == rows
    from postnms.runs.loading import build_run_detector

    further = {"stage": recipe.stage, "heads": recipe.heads, "suppressors": recipe.suppressors}
    small = tiny().model_copy(update=further)
    assert build_run_detector(small, 2).row_names == rows


def test_an_arm_is_described_by_what_differs(tmp_path):
    arms = planned(tmp_path, arms=ARMS, differences=[]).experiment.config.arms
    assert describe_arm(arms["joint"]) == "nothing"
    assert describe_arm(arms["late"]) == (
        "starts from the weights of `joint` of the same seed; "
        "only the stage and the heads are trained; `stage.fusion=[1, 0, 0]`"
    )
    assert describe_arm(arms["dense"]) == "recipe `retinanet_r18_small`; `stage=null`"
