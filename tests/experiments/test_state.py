"""What is finished, what is stopped, and what is left to do."""

import json
import shutil

import pytest

from postnms.errors import UserError
from postnms.experiments.folder import hold_experiment
from postnms.experiments.state import jobs_of, progress_of
from postnms.files.tensor_files import save_tensors
from postnms.runs.folder import read_recipe
from tests.support.experiments import HEURISTICS, PLAIN, finish, finished_plan, planned, write_data

ARMS = {"bare": {"set": ["stage=null"]}, "stage": PLAIN, "late": {"start_from": "bare"}}


@pytest.fixture
def plan(tmp_path):
    """A plan with one seed whose runs are all finished, suppressors included."""
    return finished_plan(tmp_path, seeds=[0], arms=ARMS, heuristics=HEURISTICS)[0]


def makes(plan):
    return [job.makes.name for job in jobs_of(plan)]


def checkpoint(run, finished, iterations=20):
    save_tensors(run.folder.checkpoint, {}, {"finished": finished, "iterations": iterations})


def test_a_new_experiment_has_everything_to_do(tmp_path):
    plan = planned(tmp_path, seeds=[0], arms=ARMS, heuristics=HEURISTICS)
    jobs = jobs_of(plan)
    assert [(job.makes.name, job.after and job.after.name) for job in jobs] == [
        ("bare_0", None),
        ("stage_0", None),
        ("stage_0.safetensors", "stage_0"),
        ("stage_0_compared", "stage_0.safetensors"),
        ("late_0", "bare_0"),
    ]
    assert [job.words for job in jobs if job.makes.name == "bare_0"] == [plan.runs[0].words]
    assert {job.log.name for job in jobs} == {"bare_0.log", "stage_0.log", "late_0.log"}


def test_a_finished_experiment_has_nothing_to_do(plan):
    assert jobs_of(plan) == []
    for run in plan.runs:
        checkpoint(run, 20)
    assert jobs_of(plan) == []


def test_a_run_without_figures_goes_on_from_its_checkpoint(plan):
    stage = plan.of_arm("stage")[0]
    checkpoint(stage, 7)
    stage.folder.metrics.unlink()
    (train, dump, compare) = jobs_of(plan)
    assert train.words == ("train", "--resume", str(stage.folder.root), "--data", str(plan.data))
    assert (dump.after, compare.after) == (train.makes, dump.makes)
    stage.folder.weights.unlink()
    stage.folder.checkpoint.rename(stage.folder.older_checkpoint)
    assert jobs_of(plan)[0].words == train.words


def test_a_run_that_was_made_longer_and_stopped_is_not_finished(plan):
    """Its figures are those of the earlier end."""
    stage = plan.of_arm("stage")[0]
    checkpoint(stage, 15)
    assert progress_of(plan, stage) == "stopped"
    stage.folder.checkpoint.write_bytes(b"damaged")
    assert progress_of(plan, stage) == "finished"


def test_a_run_that_never_had_a_checkpoint_begins_anew(plan):
    bare = plan.of_arm("bare")[0]
    late = plan.of_arm("late")[0]
    shutil.rmtree(late.folder.root)
    bare.folder.weights.unlink()
    assert [job.words for job in jobs_of(plan)] == [bare.words, late.words]


def test_candidates_and_comparisons_of_other_weights_are_made_again(plan):
    stage = plan.of_arm("stage")[0]
    stage.folder.weights.write_bytes(b"other weights")
    assert makes(plan) == ["stage_0.safetensors", "stage_0_compared"]


def test_a_comparison_that_lacks_a_suppressor_is_made_again(plan):
    stage = plan.of_arm("stage")[0]
    file = stage.compared / "compare.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "rows": content["rows"][:2]}))
    assert makes(plan) == ["stage_0_compared"]
    file.write_text("[]")
    with pytest.raises(UserError, match=r"compare.json: expected a comparison of suppressors"):
        jobs_of(plan)


def test_a_run_of_another_recipe_is_an_error_that_names_the_field(tmp_path, plan):
    again = planned(tmp_path, plan.data, seeds=[0], arms=ARMS, set=["training.lr=0.5"])
    with pytest.raises(UserError, match=r"bare_0: holds another run .* training.lr: 0.5 here"):
        jobs_of(again)


def test_a_run_may_have_any_precision_where_the_plan_leaves_it_to_the_machine(tmp_path, plan):
    for run in plan.runs:
        content = json.loads(run.folder.recipe.read_text())
        content["training"]["precision"] = "bf16"
        run.folder.recipe.write_text(json.dumps(content))
    assert jobs_of(plan) == []
    settings = ["training.iterations=20", "training.precision=float32"]
    strict = planned(tmp_path, plan.data, seeds=[0], arms=ARMS, set=settings)
    with pytest.raises(UserError, match=r"training.precision: 'float32' here, 'bf16' there"):
        jobs_of(strict)


def test_the_folder_around_a_run_that_another_starts_from_may_move(tmp_path, plan):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "mine").rename(elsewhere / "mine")
    moved = planned(elsewhere, plan.data, seeds=[0], arms=ARMS, heuristics=HEURISTICS)
    assert read_recipe(moved.of_arm("late")[0].folder).training.start_from == str(
        tmp_path / "mine" / "bare_0"
    )
    assert jobs_of(moved) == []


def test_a_run_on_other_data_is_an_error(tmp_path, plan):
    (tmp_path / "other").mkdir()
    fields = {"seeds": [0], "arms": ARMS}
    with pytest.raises(UserError, match=r"bare_0: expected a run on other, got one on cells"):
        jobs_of(planned(tmp_path, tmp_path / "other", **fields))
    with pytest.raises(UserError, match=r"expected a run on the built-in scenes, got one on cells"):
        jobs_of(planned(tmp_path, **fields))


def test_a_run_whose_start_is_trained_anew_is_an_error(plan):
    shutil.rmtree(plan.of_arm("bare")[0].folder.root)
    with pytest.raises(UserError, match=r"late_0: started from weights that .*bare_0 does not"):
        jobs_of(plan)


def test_the_folder_is_held_and_marked(tmp_path):
    plan = planned(tmp_path, seeds=[0])
    with hold_experiment(plan, "first"):
        assert json.loads((plan.folder / ".lock").read_text())["command"] == "first"
    assert json.loads((plan.folder / "experiment.json").read_text()) == {
        "experiment": "mine.yaml",
        "arms": ["bare", "stage"],
    }
    (plan.folder / "notes.txt").write_text("")
    with hold_experiment(plan):
        pass


def test_a_folder_that_only_the_commands_wrote_is_taken_over(tmp_path):
    data, truth, results = write_data(tmp_path)
    plan = planned(tmp_path, data, seeds=[0])
    finish(plan, plan.runs[0], truth, results)
    (plan.folder / ".lock").write_text("")  # What a killed process leaves.
    with hold_experiment(plan):
        pass
    (plan.folder / "experiment.json").unlink()
    (plan.folder / "bare_0.nohup").write_text("what the shell wrote")
    with hold_experiment(plan):
        pass
    assert (plan.folder / "experiment.json").is_file()


def test_a_folder_of_the_user_is_left_alone(tmp_path):
    plan = planned(tmp_path, seeds=[0])
    plan.folder.mkdir()
    (plan.folder / "notes.txt").write_text("mine")
    message = r"out: .*mine: holds files, and is not the folder of an experiment"
    with pytest.raises(UserError, match=message):
        hold_experiment(plan).__enter__()


def test_some_arms_are_run_with_what_they_start_from(tmp_path):
    arms = {**ARMS, "last": {"start_from": "late"}, "other": {}}
    plan = planned(tmp_path, seeds=[0, 3], arms=arms)
    made = [job.makes.name for job in jobs_of(plan, ["last"])]
    assert made == ["bare_0", "late_0", "last_0", "bare_3", "late_3", "last_3"]
    assert [job.makes.name for job in jobs_of(plan, ["stage"])] == ["stage_0", "stage_3"]
    assert len(jobs_of(plan)) == 10
