"""Rows that come from candidates: what they are, and what has to be made for them."""

import json
import shutil

import pytest

from postnms.candidate_files.reader import open_candidates
from postnms.candidate_files.writer import CandidateWriter
from postnms.experiments.comparison import Comparison
from postnms.experiments.finished import FinishedRun, read_all_finished
from postnms.experiments.sources import FileRow, FusedRow, SuppressedRow, sources_of
from postnms.experiments.state import jobs_of
from postnms.experiments.steps import is_dumped, is_fused, steps_of
from postnms.files.atomic import hash_of
from postnms.rescoring import Rescorer, build_network, rescorer_config
from postnms.structures import as_detections
from tests.support.experiments import PLAIN, finish, planned, replay_by_hand, write_data
from tests.support.runs import TINY

FUSED = {
    "ori_fixed": ["stage.fusion=[1,0,0]", "stage.relocation=false"],
    "clu": ["stage.fusion=[0,1,0]"],
    "obj_fixed": ["stage.fusion=[0,0,1]", "stage.relocation=false"],
    "mixed": ["stage.fusion=[0.5,0.2,0.3]", "stage.fusion_mean=geometric"],
}
OTHERS = {"loose": ["detector.box_nms_thresh=0.6"], "twice": ["stage.second_nms=0.5"]}


@pytest.fixture
def tiny_plan(trained_run, tmp_path):
    """A plan whose only run is a tiny one that was trained, with evaluations."""
    arm = {"set": [*TINY, "training.iterations=2"], "evaluations": {**FUSED, **OTHERS}}
    plan = planned(
        tmp_path, seeds=[0], set=[], arms={"stage": arm}, differences=[["stage", "stage.nms"]]
    )
    shutil.copytree(trained_run, plan.runs[0].folder.root)
    return plan


def test_evaluations_are_what_eval_gives(postnms, tiny_plan):
    """Those of the candidates of the run, and those that detect again."""
    jobs = jobs_of(tiny_plan)
    assert [job.makes.name for job in jobs] == [
        "stage_0.safetensors", "stage_0_with_loose.safetensors", "stage_0_with_twice.safetensors"
    ]  # fmt: skip
    assert [job.after for job in jobs] == [None] * 3
    for job in jobs:
        assert postnms(*job.words)[0] == 0
    assert jobs_of(tiny_plan) == []
    comparison = Comparison(tiny_plan, read_all_finished(tiny_plan))
    assert comparison.missing == []
    (finished,) = comparison.runs
    run, truth = finished.run, comparison.truth(finished.run)
    assert {name for name in run.evaluations if is_fused(run, name)} == set(FUSED)
    kinds = {name: type(finished.sources[f"{name}:post_nms"]) for name in run.evaluations}
    assert kinds == dict.fromkeys(FUSED, FusedRow) | dict.fromkeys(OTHERS, FileRow)
    copy = run.folder.root.with_name("copy")
    for name, changes in (FUSED | OTHERS).items():
        shutil.copytree(run.folder.root, copy)
        sets = [word for change in changes for word in ("--set", change)]
        assert postnms("eval", copy, *sets)[0] == 0
        metrics = json.loads((copy / "metrics.json").read_text())
        for row in ("nms", "post_nms"):
            expected = json.loads((copy / f"results_{row}.json").read_text())
            found = finished.sources[f"{name}:{row}"].columns(truth)
            same_results(found, expected, truth)
            figures = comparison.figures(finished, f"{name}:{row}")
            assert figures == pytest.approx(metrics[row]), (name, row)
        shutil.rmtree(copy)


def same_results(columns, expected, truth):
    """Compare results as sets: by image, class, score and box, in that order."""
    ids = [entry["id"] for entry in truth.images]
    classes = [category.id for category in truth.categories]
    mine = sorted(
        (ids[image], classes[label], score, *box)
        for image, label, score, box in zip(
            columns.image.tolist(), columns.label.tolist(), columns.scores.tolist(),
            columns.boxes.tolist(), strict=True,
        )
    )  # fmt: skip
    theirs = sorted(
        (entry["image_id"], entry["category_id"], entry["score"], *entry["bbox"])
        for entry in expected
    )
    assert len(mine) == len(theirs) > 10
    for one, other in zip(mine, theirs, strict=True):
        assert one[:2] == other[:2]
        assert one[2:] == pytest.approx(other[2:], abs=2e-3)


def test_candidates_of_other_settings_are_made_again(postnms, tiny_plan):
    run = tiny_plan.runs[0]
    steps = {step.makes.name: step for step in steps_of(tiny_plan, run)}
    step = steps["stage_0_with_loose.safetensors"]
    words = [word.replace("0.6", "0.7") for word in step.words]
    assert words != list(step.words)
    assert postnms(*words)[0] == 0
    assert is_dumped(run, step.makes)
    assert not step.is_done()


ARM = {**PLAIN, "methods": ["wbf"], "rescorers": {"contextual": ["epochs=2"]}, "placement": True}


@pytest.fixture
def by_hand(tmp_path):
    data, truth, results = write_data(tmp_path)
    fields = {"arms": {"stage": ARM}, "differences": [["stage.wbf", "stage.contextual"]]}
    plan = planned(tmp_path, data, seeds=[0], **fields)
    run = plan.runs[0]
    finish(plan, run, truth, results)
    assert [job.makes.name for job in jobs_of(plan)] == [
        "stage_0.safetensors",
        "stage_0_compared",
        "stage_0_train.safetensors",
        "stage_0_contextual_rescorer.safetensors",
        "stage_0_contextual_rescored.safetensors",
    ]
    return plan, run, truth, results


def left(plan):
    return [(job.makes.name, job.after and job.after.name) for job in jobs_of(plan)]


def origin(run):
    """Return what a rescorer knows of the candidates of a run that it learned from."""
    return {"weights_sha256": hash_of(run.folder.newest_weights)}


def rescore(run, change=0.5, settings=("epochs=2",), learned_from=None):
    """Write the candidates with a row in which all scores are multiplied."""
    file = open_candidates(run.candidates)
    config = rescorer_config("contextual", [*settings, "suppressor=nms"]).model_dump(mode="json")
    entry = {"row": "contextual", "config": config, "learned_from": learned_from or origin(run)}
    about = {**file.provenance, "rescored": [entry]}
    with CandidateWriter(run.rescored("contextual"), file.categories, None, about) as writer:
        for ids, candidates in file.chunks():
            detections = as_detections(candidates)
            object.__setattr__(detections, "scores", candidates.scores * change)
            writer.add(candidates, ids, {"contextual": detections})


def test_a_job_waits_for_the_nearest_open_one(by_hand):
    """A rescorer waits for the train split, which waits for the run or its candidates."""
    plan, run, truth, results = by_hand
    train, rescorer, rescored = (
        "stage_0_train.safetensors",
        "stage_0_contextual_rescorer.safetensors",
        "stage_0_contextual_rescored.safetensors",
    )
    file = run.rescorer("contextual")
    words = next(step.words for step in steps_of(plan, run) if step.makes == file)
    assert words[-4:] == ("--set", "epochs=2", "--out", str(file))
    chain = [(train, "stage_0.safetensors"), (rescorer, train), (rescored, rescorer)]
    assert left(plan)[2:] == chain
    replay_by_hand(plan, run, truth, results)
    assert left(plan) == [(train, None), *chain[1:]]
    shutil.copy(run.candidates, run.train_candidates)
    assert left(plan) == [(rescorer, None), chain[2]]
    # The train split is done, so the rescorer waits for what the train split would wait for.
    kept = run.candidates.rename(run.candidates.with_name("kept"))
    val = "stage_0.safetensors"
    assert left(plan) == [(val, None), (rescorer, val), chain[2]]
    kept.rename(run.candidates)
    for settings in (["epochs=3"], ["epochs=2", "suppressor=nms:iou=0.6"]):
        config = rescorer_config("contextual", settings)
        facts = {"candidates": origin(run)}
        Rescorer(config, ("cell",), build_network(config, 1), facts).save(file)
        # Without a suppressor in the settings, the candidates have decided which one it is.
        is_asked_for = settings[0] == "epochs=2"
        assert left(plan) == ([(rescored, None)] if is_asked_for else [(rescorer, None), chain[2]])
    rescore(run, settings=["epochs=3"])
    assert left(plan) == [(rescored, None)]
    # A rescorer that learned from the candidates of other weights counts as none.
    others = {"weights_sha256": "0" * 64}
    rescore(run, learned_from=others)
    assert left(plan) == [(rescored, None)]
    Rescorer(config, ("cell",), build_network(config, 1), {"candidates": others}).save(file)
    assert left(plan) == [(rescorer, None), chain[2]]
    rescore(run)
    assert left(plan) == []
    # The candidates of the train split are large. When the work is done, they may go.
    run.train_candidates.unlink()
    run.rescorer("contextual").unlink()
    assert left(plan) == []
    # Other weights make everything that follows from them out of date.
    run.folder.weights.write_bytes(b"other weights")
    assert len(left(plan)) == 5


def test_a_suppressor_and_a_rescorer_of_an_arm_have_figures_and_differences(by_hand):
    plan, run, truth, results = by_hand
    finished = read_all_finished(plan)
    assert Comparison(plan, finished).missing == [
        "the suppressors on stage_0", "the candidates of stage_0",
        "the rescorer contextual on stage_0",
    ]  # fmt: skip
    replay_by_hand(plan, run, truth, results)
    rescore(run)
    comparison = Comparison(plan, read_all_finished(plan))
    assert comparison.missing == []
    (one,) = comparison.runs
    assert one.sources["wbf"] == SuppressedRow(run.candidates, "wbf")
    assert one.sources["contextual"] == FileRow(run.rescored("contextual"), "contextual")
    # Equal factors leave the order of the scores as it was, and so the figures of all boxes.
    plain = FinishedRun(run, one.evaluation, {}, {"x": SuppressedRow(run.candidates, "none")})
    assert comparison.figures(one, "contextual") == pytest.approx(comparison.figures(plain, "x"))
    (asked,) = plan.differences
    estimate = comparison.difference(*asked)
    aps = [comparison.figures(one, row)["AP"] for row in ("wbf", "contextual")]
    assert estimate.mean == pytest.approx(aps[0] - aps[1])
    assert (
        hash_of(run.folder.weights) == open_candidates(run.candidates).provenance["weights_sha256"]
    )
    assert set(sources_of(plan, run)) == {"wbf", "contextual"}
