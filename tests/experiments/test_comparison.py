"""Finished runs side by side: what their files say, and what is measured from their results."""

import json

import numpy as np
import pytest

from postnms.candidate_files.reader import open_candidates
from postnms.errors import UserError
from postnms.evaluation.bootstrap import gain_interval, resampled_precisions
from postnms.evaluation.matching import match_results
from postnms.evaluation.results import Evaluation
from postnms.experiments.comparison import Comparison, best_of
from postnms.experiments.config import BEST, BEST_ROW
from postnms.experiments.finished import FinishedRun, read_all_finished, read_finished
from postnms.experiments.plan import Side
from postnms.experiments.summary import summarize
from postnms.files.tensor_files import save_tensors
from postnms.recipes import get_recipe
from tests.support.coco import pycocotools_metrics
from tests.support.experiments import HEURISTICS, PLAIN, finish, finished_plan, planned
from tests.support.runs import tiny

DIFFERENCES = [["stage.post_nms", "bare.nms"], ["stage.post_nms", "stage.best_heuristic"]]


@pytest.fixture
def done(tmp_path):
    return finished_plan(tmp_path, heuristics=HEURISTICS, differences=DIFFERENCES)


def compared(plan):
    return Comparison(plan, read_all_finished(plan))


def differences(comparison):
    return [part.estimate for part in summarize(comparison).differences]


def test_figures_are_those_of_the_results(done):
    plan, truth, _ = done
    for run in compared(plan).runs:
        for row in run.evaluation.rows:
            results = json.loads(run.run.folder.results(row).read_text())
            assert run.figures(row)["AP"] == pytest.approx(
                pycocotools_metrics(truth, results)["AP"]
            )
        assert set(run.suppressors) == (set(plan.methods) if run.run.arm == "stage" else set())


def test_a_difference_is_that_of_the_results_of_each_seed(done):
    plan, truth, _ = done
    comparison = compared(plan)
    first, second = differences(comparison)
    aps = {
        (run.arm, run.seed, row): pycocotools_metrics(
            truth, json.loads(run.folder.results(row).read_text())
        )["AP"]
        for run in plan.runs
        for row in ("nms", "post_nms")
        if run.folder.results(row).is_file()
    }
    gains = [aps["stage", seed, "post_nms"] - aps["bare", seed, "nms"] for seed in (0, 3)]
    assert first.per_seed == pytest.approx(gains)
    assert first.mean == pytest.approx(sum(gains) / 2)
    of_arm = comparison.of_arm("stage")
    best = comparison.best("stage")
    assert comparison.named(Side("stage", BEST)) == Side("stage", best)
    gains = [
        aps["stage", run.run.seed, "post_nms"] - run.suppressors[best]["figures"]["AP"]
        for run in of_arm
    ]
    assert second.per_seed == pytest.approx(gains)
    assert second.low < second.mean < second.high


def test_the_interval_of_a_suppressor_is_that_of_its_replay(tmp_path):
    methods = {"arms": ["stage"], "methods": ["nms:iou_threshold=0.9", "none"]}
    asked = [["stage.nms:iou_threshold=0.9", "stage.none"]]
    plan, truth, _ = finished_plan(tmp_path, seeds=[1], heuristics=methods, differences=asked)
    (found,) = differences(compared(plan))
    file = open_candidates(plan.of_arm("stage")[0].candidates)
    drawn = []
    from postnms.candidate_files.replays import as_columns, replay
    from postnms.suppression import get_suppressor

    for method in methods["methods"]:
        columns = as_columns(replay(file, get_suppressor(method)).detections, file, truth)
        matching = match_results(truth, columns)
        # A record keeps hundredths, so the intervals of runs are made from hundredths too.
        drawn.append(np.round(resampled_precisions(matching, 30, 0) * 100) / 100)
    assert (found.low, found.high) == gain_interval(drawn[1], drawn[0])


def with_ap(**aps):
    figures = {name: {"figures": {"AP": value}} for name, value in aps.items()}
    return FinishedRun(None, Evaluation({}), figures)


def test_the_best_suppressor_has_the_best_mean_over_the_seeds():
    runs = [with_ap(a=9.0, b=5.0, c=None), with_ap(a=1.0, b=6.0, c=90.0)]
    assert best_of(runs[:1], ["a", "b", "c"]) == "a"
    assert best_of(runs, ["a", "b"]) == "b"
    assert best_of([with_ap(a=2.0, b=2.0)], ["b", "a"]) == "b"


def test_figures_of_another_evaluation_are_refused(done):
    plan = done[0]
    run = plan.of_arm("stage")[0]
    changed = run.recipe.model_copy(update={"stage": get_recipe("demo").stage.model_copy(
        update={"fusion": (1.0, 0.0, 0.0)})})  # fmt: skip
    for recipe in (run.recipe, changed):
        run.folder.evaluation.write_text(json.dumps({"recipe": recipe.model_dump(mode="json")}))
        if recipe is run.recipe:
            assert read_finished(plan, run).run is run
    with pytest.raises(UserError, match=r"evaluation.json: the last 'postnms eval'.* stage.fusion"):
        read_finished(plan, run)


def test_figures_that_do_not_come_from_the_results_are_refused(done):
    plan = done[0]
    run = plan.of_arm("bare")[1]
    figures = json.loads(run.folder.metrics.read_text())
    figures["nms"]["AP"] += 0.01
    run.folder.metrics.write_text(json.dumps(figures))
    with pytest.raises(UserError, match=r"results_nms.json: gives .* AP for nms on .*is recorded"):
        differences(compared(plan))


def test_metrics_without_a_row_are_refused(done):
    plan = done[0]
    run = plan.of_arm("stage")[0]
    for content in (
        '{"nms": {"AP": 1.0}}',
        "[]",
        '{"nms": 1, "post_nms": 2, "gains": {"post_nms": {"x": 1}}}',
    ):
        run.folder.metrics.write_text(content)
        with pytest.raises(UserError, match="expected the figures of nms, post_nms, got others"):
            read_finished(plan, run)


def test_results_of_other_images_are_refused(done):
    plan = done[0]
    run = plan.of_arm("bare")[0]
    file = run.folder.results("nms")
    file.write_text(json.dumps([{**json.loads(file.read_text())[0], "image_id": 999}]))
    with pytest.raises(UserError, match=r"results_nms.json: does not fit .*instances_val.json"):
        differences(compared(plan))


def test_images_of_the_scenes_depend_on_the_seed_and_those_of_a_folder_do_not(tmp_path, done):
    folder = compared(done[0])
    assert {folder.image_set(run) for run in done[0].runs} == {0}
    few = ["data.scenes.train=1", "data.scenes.val=2", "data.scenes.size=64"]
    plan = planned(tmp_path, set=few, seeds=[0, 1])
    for run in plan.runs:
        truth = tiny_truth(run)
        finish(plan, run, truth, [])
    comparison = compared(plan)
    assert [comparison.image_set(run) for run in plan.runs] == [0, 0, 1, 1]
    assert len(comparison.truth(plan.runs[0]).images) == 2
    assert all(np.isfinite(value) for value in differences(comparison)[0].per_seed)


def tiny_truth(run):
    from postnms.data.splits import open_dataset

    assert tiny().data.scenes is not None
    return open_dataset(run.recipe.data, None, "val", run.seed).truth


def test_sides_on_other_images_are_refused(tmp_path):
    few = ["data.scenes.train=1", "data.scenes.val=2", "data.scenes.size=64"]
    arms = {"bare": {"set": ["stage=null", "data.scenes.val=3"]}, "stage": PLAIN}
    plan = planned(tmp_path, set=few, seeds=[0], arms=arms)
    for run in plan.runs:
        finish(plan, run, tiny_truth(run), [])
    with pytest.raises(UserError, match="expected runs on the same val images, got others"):
        differences(compared(plan))


def test_the_row_that_counts_stands_for_an_arm(tmp_path):
    arms = {
        "bare": {"set": ["stage=null"], "row": "best_heuristic"},
        "stage": PLAIN,
        "first": {"row": "nms"},
        "best": {"row": "best"},
    }
    asked = [["stage", "bare"], ["best", "first.best"]]
    heuristics = {**HEURISTICS, "arms": ["bare", "stage"]}
    plan, _, _ = finished_plan(
        tmp_path, seeds=[0], arms=arms, differences=asked, heuristics=heuristics
    )
    counted = {"bare": BEST, "stage": "post_nms", "first": "nms", "best": BEST_ROW}
    assert {arm: side.row for arm, side in plan.counted.items()} == counted
    assert plan.differences[0] == (Side("stage", "post_nms"), Side("bare", BEST))
    comparison = compared(plan)
    summary = summarize(comparison)
    assert [(result.side.arm, result.asked.row) for result in summary.results] == [
        ("bare", BEST), ("stage", "post_nms"), ("stage", BEST), ("first", "nms"), ("best", BEST_ROW)
    ]  # fmt: skip
    for result in summary.results:
        (run,) = comparison.of_arm(result.side.arm)
        rows = run.evaluation.rows if result.asked.row != BEST else plan.methods
        expected = run.figures(result.side.row)["AP"]
        assert result.estimate.per_seed == pytest.approx([expected])
        if result.asked.row in (BEST, BEST_ROW):
            assert expected == max(run.figures(row)["AP"] for row in rows)


def test_the_best_of_an_arm_is_chosen_from_its_own_runs_over_all_seeds(tmp_path):
    """In each arm another suppressor and another row have the best mean, and not in every seed."""
    heuristics = {**HEURISTICS, "arms": ["one", "two"]}
    arms = {"one": PLAIN, "two": PLAIN}
    plan = planned(tmp_path, arms=arms, heuristics=heuristics, differences=[])
    first, second = HEURISTICS["methods"]
    aps = {  # Of the rows nms and post_nms, and of the two methods.
        "one_0": (1.0, 2.0, 5.0, 6.0),
        "one_3": (9.0, 7.0, 9.0, 5.0),
        "two_0": (4.0, 3.0, 4.0, 3.0),
        "two_3": (1.0, 3.0, 90.0, 99.0),
    }

    def finished(run):
        row, post, *others = ({"AP": value} for value in aps[run.name])
        methods = {
            name: {"figures": part} for name, part in zip((first, second), others, strict=True)
        }
        return FinishedRun(run, Evaluation({"nms": row, "post_nms": post}), methods)

    comparison = Comparison(plan, [finished(run) for run in plan.runs])
    assert (comparison.best("one"), comparison.best("two")) == (first, second)
    rows = [comparison.named(Side(arm, BEST_ROW)).row for arm in ("one", "two")]
    assert rows == ["nms", "post_nms"]


def test_the_interval_of_ap_is_that_of_the_difference_to_nothing(done):
    plan, _, _ = done
    comparison = compared(plan)
    estimate = comparison.precision(Side("bare", "nms"))
    aps = [run.figures("nms")["AP"] for run in comparison.of_arm("bare")]
    assert estimate.per_seed == pytest.approx(aps)
    assert estimate.low < estimate.mean < estimate.high
    assert estimate.mean == pytest.approx(np.mean(aps))


def test_of_runs_that_are_not_finished_the_others_are_compared(done):
    """A difference is over the seeds that both sides have."""
    plan = done[0]
    whole = compared(plan)
    before = differences(whole)
    assert whole.missing == []
    bare, stage = (plan.of_arm(arm) for arm in ("bare", "stage"))
    # The run has figures, but those are from before it was made longer.
    save_tensors(bare[0].folder.checkpoint, {}, {"finished": 7, "iterations": 20})
    (stage[1].compared / "compare.json").unlink()
    comparison = compared(plan)
    assert comparison.missing == ["bare_0", "the suppressors on stage_3"]
    summary = summarize(comparison)
    first, second = summary.differences
    assert (first.seeds, second.seeds) == ([3], [0])
    assert first.estimate.per_seed == before[0].per_seed[1:]
    assert summary.to_json()["missing"] == comparison.missing
    assert summary.to_json()["differences"][0]["of_seeds"] == [3]
    assert [result.seeds for result in summary.results] == [[3], [0, 3], [0]]


def test_an_arm_without_a_finished_run_has_no_figures(done):
    plan = done[0]
    for run in plan.of_arm("stage"):
        run.folder.weights.unlink()
    comparison = compared(plan)
    summary = summarize(comparison)
    assert [part.estimate for part in summary.differences] == [None, None]
    assert summary.results[1].estimate is None
    assert comparison.named(Side("stage", BEST)) == Side("stage", BEST)
    assert comparison.named(Side("stage", BEST_ROW)) == Side("stage", BEST_ROW)
    for run in plan.of_arm("bare"):
        run.folder.weights.unlink()
    with pytest.raises(UserError, match=r"mine: no run of .*mine.yaml is finished"):
        compared(plan)
