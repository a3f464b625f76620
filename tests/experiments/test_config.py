"""The file of an experiment: what it may say, and what is wrong with it and where."""

import pytest
import yaml

from postnms.errors import UserError
from postnms.evaluation.metrics import FIGURES
from postnms.experiments.config import FREE, read_experiment
from postnms.experiments.plan import make_plan
from postnms.structures import EXTRA_COLUMNS
from postnms.suppression import SUPPRESSORS
from tests.support.experiments import FIELDS, HEURISTICS, planned, write_experiment


def test_a_file_is_read_with_its_defaults(tmp_path):
    fields = {name: FIELDS[name] for name in ("title", "recipe", "seeds", "arms")}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(fields))
    experiment = read_experiment(path)
    assert experiment.name == "small"
    assert experiment.config.seeds == (0, 3)
    assert experiment.config.columns == FIGURES[:3]
    assert experiment.config.bootstrap == 1000
    plan = make_plan(experiment, tmp_path)
    assert (plan.data, plan.methods, plan.differences) == (None, (), ())


def test_by_default_all_suppressors_but_nms_are_replayed_that_need_no_column(tmp_path):
    methods = planned(tmp_path, heuristics={"arms": ["bare"]}).methods
    assert methods == FREE
    left_out = {"none", "nms", "adaptive_nms", "iou_guided_nms", "variance_voting"}
    assert set(SUPPRESSORS) - set(methods) == left_out
    needed = {column for name in left_out for column in SUPPRESSORS[name].columns}
    assert needed <= set(EXTRA_COLUMNS)


def test_a_method_of_an_arm_that_heuristics_have_is_there_twice(tmp_path):
    mine = {"stage": {"methods": ["soft_nms_linear"]}}
    with pytest.raises(UserError, match=r"arms.stage.methods.0: soft_nms_linear is there twice"):
        planned(tmp_path, arms=mine, differences=[], heuristics=HEURISTICS)


def arms(**changes):
    return {"arms": {**FIELDS["arms"], **changes}}


MISTAKES = {  # Other fields, the last text of the file that is on the line, and the message.
    "a field": ({"colums": ["AP"]}, "colums", "colums: no such field (did you mean 'columns'?)"),
    "a field of an arm": (
        arms(late={"from": "bare"}),
        "from:",
        "arms.late.from: no such field (did you mean 'start_from'?)",
    ),
    "a name of an arm": (arms(**{"a.b": {}}), "a.b", "arms.a.b: expected a name of letters"),
    "a name that moves the cursor": (
        arms(**{"a\x1b": {"row": "x"}}),
        "\\e",
        "arms.'a\\x1b': expected a name of letters",
    ),
    "a seed": ({"seeds": [-1]}, "- -1", "seeds.0: input should be greater than or equal to 0"),
    "no seed": ({"seeds": []}, "seeds", "seeds: tuple should have at least 1 item"),
    "a seed twice": ({"seeds": [1, 1]}, "seeds", "seeds: expected each value once, got (1, 1)"),
    "a figure": ({"columns": ["AP5"]}, "- AP5", "no figure 'AP5'"),
    "a start": (
        arms(late={"start_from": "bear"}),
        "start_from",
        "arms.late.start_from: no arm 'bear' (did you mean 'bare'?)",
    ),
    "a circle": (
        arms(a={"start_from": "b"}, b={"start_from": "a"}),
        "start_from: b",
        "arms.a.start_from: expected arms that do not wait for each other, got a circle in a, b",
    ),
    "itself": (arms(a={"start_from": "a"}), "start_from", "got a circle in a"),
    "an arm of a difference": (
        {"differences": [["stage.nms", "bar.nms"]]},
        "bar.nms",
        "differences.0.1: no arm 'bar' (did you mean 'bare'?)",
    ),
    "a row of a difference": (
        {"differences": [["stage.nms", "stage.post_nmss"]]},
        "stage.post_nmss",
        "differences.0.1: no row of the arm stage: 'post_nmss' (did you mean 'post_nms'?)",
    ),
    "a row that an arm without a stage lacks": (
        {"differences": [["bare.post_nms", "stage.nms"]]},
        "bare.post_nms",
        "no row of the arm bare: 'post_nms'",
    ),
    "the best of nothing": (
        {"differences": [["stage.post_nms", "stage.best_heuristic"]]},
        "stage.best_heuristic",
        "differences.0.1: best_heuristic needs stage among the arms of heuristics",
    ),
    "a row that counts": (
        arms(stage={"row": "post_nm"}),
        "row: post_nm",
        "arms.stage.row: no row of the arm stage: 'post_nm' (did you mean 'post_nms'?)",
    ),
    "a suppressor that counts without heuristics": (
        arms(bare={"set": ["stage=null"], "row": "best_heuristic"}),
        "row: best_heuristic",
        "arms.bare.row: best_heuristic needs bare among the arms of heuristics",
    ),
    "an arm of heuristics twice": (
        {"heuristics": {**HEURISTICS, "arms": ["stage", "stage"]}},
        "  arms:",
        "heuristics.arms: expected each value once, got ('stage', 'stage')",
    ),
    "an arm of heuristics": (
        {"heuristics": {**HEURISTICS, "arms": ["stge"]}},
        "stge",
        "heuristics.arms.0: no arm 'stge' (did you mean 'stage'?)",
    ),
    "a method": (
        {"heuristics": {"arms": ["stage"], "methods": ["wbf", "soft_nms_liner"]}},
        "soft_nms_liner",
        "heuristics.methods.1: suppressor: no 'soft_nms_liner' (did you mean 'soft_nms_linear'?)",
    ),
    "a method that needs a column": (
        {"heuristics": {"arms": ["stage"], "methods": ["iou_guided_nms"]}},
        "iou_guided_nms",
        "iou_guided_nms needs the columns iou, which not every recipe gives; name it in the field "
        "methods of the arms that have them",
    ),
    "a method of an arm": (
        arms(stage={"methods": ["variance_votin"]}),
        "variance_votin",
        "arms.stage.methods.0: suppressor: no 'variance_votin' (did you mean 'variance_voting'?)",
    ),
    "a method of an arm twice": (
        arms(stage={"methods": ["wbf", "wbf"]}),
        "- wbf",
        "arms.stage.methods.1: wbf is there twice",
    ),
    "a rescorer": (
        arms(stage={"rescorers": {"sec": []}}),
        "sec",
        "arms.stage.rescorers.sec: input should be 'sce', 'contextual' or 'relation', got 'sec'",
    ),
    "a setting of a rescorer": (
        arms(stage={"rescorers": {"sce": ["epoch=3"]}}),
        "sce",
        "arms.stage.rescorers.sce: sce.epoch: no such field",
    ),
    "a name of an evaluation": (
        arms(stage={"evaluations": {"a:b": []}}),
        "a:b",
        "arms.stage.evaluations.a:b: expected a name of letters",
    ),
    "a change of an evaluation": (
        arms(stage={"evaluations": {"a": ["stage.fuson=[1, 0, 0]"]}}),
        "a:",
        "no such field (did you mean 'fusion'?)",
    ),
    "a row of an evaluation": (
        {
            **arms(stage={"evaluations": {"a": ["stage.fusion=[1, 0, 0]"]}}),
            "differences": [["stage.a:post_nm", "bare.nms"]],
        },
        "stage.a:post_nm",
        "differences.0.0: no row of the arm stage: 'a:post_nm' (did you mean 'a:post_nms'?)",
    ),
    "a method twice": (
        {"heuristics": {"arms": ["stage"], "methods": ["wbf", "wbf"]}},
        "- wbf",
        "heuristics.methods.1: wbf is there twice",
    ),
    "the baseline": (
        {"heuristics": {"arms": ["stage"], "methods": ["nms"]}},
        "- nms",
        "heuristics.methods.0: nms is there in any case",
    ),
    "a recipe": ({"recipe": "dmo"}, "dmo", "no such recipe (did you mean 'demo'?)"),
    "a recipe of an arm": (
        arms(other={"recipe": "dmo"}),
        "recipe: dmo",
        "arms.other.recipe: recipe 'dmo': no such recipe",
    ),
    "a change": (
        {"set": ["training.lr=0.1", "training.iteratons=20"]},
        "training.iteratons",
        "set.1: recipe.training.iteratons: no such field (did you mean 'iterations'?)",
    ),
    "a change of an arm": (
        arms(stage={"set": ["stage.widt=3"]}),
        "stage.widt",
        "arms.stage.set.0: recipe.stage.widt: no such field (did you mean 'width'?)",
    ),
    "a change of another form": (
        {"set": ["training.lr=0.1", "stage"]},
        "- stage\n",
        "set.1: stage: expected PATH=VALUE",
    ),
    "a seed among the changes": (
        arms(stage={"set": ["seed=3"]}),
        "seed=3",
        "arms.stage.set.0: the field seeds has the seeds",
    ),
    "a frozen detector without weights": (
        arms(stage={"freeze": "detector"}),
        "  stage:\n",
        "arms.stage: recipe: training.freeze: 'detector' needs its weights",
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_one_line_with_the_line_of_the_file(tmp_path, kind):
    fields, mark, message = MISTAKES[kind]
    path = write_experiment(tmp_path, **fields)
    with pytest.raises(UserError) as error:
        make_plan(read_experiment(path), tmp_path)
    text = path.read_text()
    line = text[: text.rindex(mark)].count("\n") + 1
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_there_must_be_a_file(tmp_path):
    with pytest.raises(UserError, match=r"no.yaml: no such file of an experiment"):
        read_experiment(tmp_path / "no.yaml")
