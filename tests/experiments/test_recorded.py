"""A page that is made from records says what the page of the runs said."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from postnms.analysis.placement import ClusterIoUs
from postnms.data.splits import open_dataset
from postnms.errors import UserError
from postnms.evaluation.results import Evaluation
from postnms.experiments.comparison import Comparison
from postnms.experiments.finished import FinishedRun, read_all_finished
from postnms.experiments.recorded import Recorded, ValSet, beside, read_recorded, write_recorded
from postnms.experiments.state import jobs_of, progress_of
from postnms.experiments.summary import summarize
from postnms.experiments.writing import BELOW_BEST, _good, write_page
from postnms.files.tensor_files import load_tensors
from tests.support.experiments import (
    HEURISTICS,
    PLAIN,
    finish,
    moved,
    planned,
    replay_by_hand,
    write_data,
)

ASKED = [
    ["stage.post_nms", "bare.nms"],
    ["stage.post_nms", "stage.best_heuristic"],
    ["stage.raised:post_nms", "stage.post_nms"],
]
ARMS = {
    "bare": {"set": ["stage=null"]},
    "stage": {**PLAIN, "evaluations": {"raised": ["stage.fusion=[0,0,1]"]}, "placement": True},
}


@pytest.fixture
def made(tmp_path):
    """A plan whose runs are finished, and the page that they make."""
    data, truth, results = write_data(tmp_path)
    plan = planned(tmp_path, data, arms=ARMS, heuristics=HEURISTICS, differences=ASKED)
    for run in plan.runs:
        finish(plan, run, truth, results)
        if run.arm == "stage":
            replay_by_hand(plan, run, truth, moved(results, 50 + run.seed), judged=True)
    page = tmp_path / "docs" / "page.md"
    write_page(page, Comparison(plan, read_all_finished(plan)), "postnms experiment mine.yaml")
    return plan, page


def from_records(plan, page):
    return replace(plan, records=page.with_suffix(""))


def forget(plan, *names):
    """Remove the folders of runs and what was made of them."""
    for run in plan.runs:
        if not names or run.name in names:
            for path in run.folder.root.parent.glob(f"{run.name}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_the_page_of_the_records_is_that_of_the_runs(made):
    """All figures are the same, to the last digit."""
    plan, page = made
    summary = page.with_suffix("") / "summary.json"
    before = page.read_text(), summary.read_text()
    forget(plan)
    shutil.rmtree(plan.data)
    recorded = from_records(plan, page)
    comparison = Comparison(recorded, read_all_finished(recorded))
    assert comparison.missing == []
    write_page(page, comparison, "postnms experiment mine.yaml")
    assert (page.read_text(), summary.read_text()) == before
    assert len(re.findall(r"\d+\.\d+", page.read_text())) > 100


def test_records_that_were_read_stay_as_they_were(made):
    plan, page = made
    files = sorted(page.with_suffix("").glob("*_*.*"))
    before = [file.read_bytes() for file in files if file.suffix != ".png"]
    forget(plan)
    recorded = from_records(plan, page)
    write_page(page, Comparison(recorded, read_all_finished(recorded)), "x")
    elsewhere = page.with_name("other.md")
    write_page(elsewhere, Comparison(recorded, read_all_finished(recorded)), "x")
    for file in page.with_suffix("").glob("stage_0.*"):
        there = elsewhere.with_suffix("") / file.name
        if file.suffix == ".json":
            assert there.read_text() == file.read_text()
        else:
            pairs = zip(*(load_tensors(path)[0].items() for path in (there, file)), strict=True)
            assert all(one[0] == other[0] and one[1].equal(other[1]) for one, other in pairs)
    assert [file.read_bytes() for file in files if file.suffix != ".png"] == before


def test_runs_that_are_there_and_records_are_compared_pair_by_pair(made):
    """The runs of a seed draw the same images, whether a record stands for one of them or not."""
    plan, page = made
    recorded = from_records(plan, page)
    whole = summarize(Comparison(recorded, read_all_finished(recorded))).differences
    forget(plan, "bare_0", "stage_3")
    assert [progress_of(recorded, run) for run in plan.runs] == [
        "recorded", "finished", "finished", "recorded"
    ]  # fmt: skip
    mixed = summarize(Comparison(recorded, read_all_finished(recorded))).differences
    for one, other in zip(whole, mixed, strict=True):
        assert other.estimate == one.estimate


def test_draws_depend_on_no_other_seed_of_the_experiment(tmp_path):
    """A record of three seeds is compared with a run of an experiment of two."""
    few = ["data.scenes.train=1", "data.scenes.val=4", "data.scenes.size=64"]
    drawn = []
    for seeds in ([0, 2], [2]):
        folder = tmp_path / str(len(seeds))
        folder.mkdir()
        plan = planned(folder, set=few, seeds=seeds)
        run = plan.of_arm("bare")[-1]
        truth = open_dataset(run.recipe.data, None, "val", run.seed).truth
        results = [
            {name: entry[name] for name in ("image_id", "category_id", "bbox")} | {"score": 0.5}
            for entry in truth.annotations
        ]
        finish(plan, run, truth, results)
        comparison = Comparison(plan, read_all_finished(plan))
        drawn.append(comparison.resampled(comparison.runs[-1], "nms").drawn)
    np.testing.assert_array_equal(*drawn)


def test_a_recorded_run_is_not_trained_again_unless_records_are_left_out(made):
    plan, page = made
    forget(plan, "stage_0")
    assert [job.makes.name for job in jobs_of(from_records(plan, page))] == []
    assert [job.makes.name for job in jobs_of(plan)] == [
        "stage_0", "stage_0.safetensors", "stage_0_compared"
    ]  # fmt: skip


def test_a_run_that_starts_from_a_recorded_one_cannot_be_trained(tmp_path):
    arms = {"first": PLAIN, "second": {**PLAIN, "start_from": "first"}}
    data, truth, results = write_data(tmp_path)
    plan = planned(tmp_path, data, arms=arms, seeds=[0], differences=[])
    finish(plan, plan.of_arm("first")[0], truth, results)
    page = tmp_path / "page.md"
    write_page(page, Comparison(plan, read_all_finished(plan)), "x")
    assert [job.makes.name for job in jobs_of(from_records(plan, page))] == ["second_0"]
    forget(plan, "first_0")
    with pytest.raises(UserError, match=r"second_0: starts from .*first_0, of which only the rec"):
        jobs_of(from_records(plan, page))


def test_a_record_of_another_run_is_refused(made, tmp_path):
    plan, page = made
    forget(plan, "bare_0")
    file = page.with_suffix("") / "bare_0.json"
    before = json.loads(file.read_text())
    for changes, message in (
        ({"data": "fish"}, r"bare_0.json: expected a run on cells, got one on fish"),
        ({"data": "built-in"}, r"got one on the built-in scenes"),
        ({"recipe": {**before["recipe"], "seed": 9}}, r"bare_0.json: holds another run .* seed"),
        ({"recipe": 3}, r"bare_0.json: recipe"),
        ({"rows": {}}, r"bare_0.json: expected a record with nms, got another one"),
        ({"val": None}, r"bare_0.json: expected a record with val and further, got .* trained"),
    ):
        file.write_text(json.dumps({**before, **changes}))
        with pytest.raises(UserError, match=message):
            read_all_finished(from_records(plan, page))
    file.write_text("[]")
    with pytest.raises(UserError, match=r"bare_0.json: expected the record of a run, got list"):
        read_all_finished(from_records(plan, page))
    file.write_text(json.dumps(before))
    beside(file).unlink()
    with pytest.raises(UserError, match=r"bare_0.safetensors: no such file"):
        read_all_finished(from_records(plan, page))


def test_another_number_of_resamples_is_refused(made):
    plan, page = made
    forget(plan, "bare_0")
    config = plan.experiment.config.model_copy(update={"bootstrap": 31})
    plan = replace(plan, experiment=replace(plan.experiment, config=config))
    with pytest.raises(UserError, match=r"bare_0.json: expected 31 resamples, got 30 of nms"):
        read_all_finished(from_records(plan, page))


def test_a_row_without_resamples_is_named(made):
    plan, page = made
    file = page.with_suffix("") / "stage_0.json"
    recorded = read_recorded(file)
    kept = {row: drawn for row, drawn in recorded.drawn.items() if row != "post_nms"}
    write_recorded(file, replace(recorded, drawn=kept))
    forget(plan, "stage_0")
    plan = from_records(plan, page)
    with pytest.raises(UserError, match="the record of stage_0 has no resamples of post_nms"):
        summarize(Comparison(plan, read_all_finished(plan)))


def test_suppressors_without_a_record_are_missing(made):
    plan, page = made
    forget(plan, "stage_0")
    file = page.with_suffix("") / "stage_0.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "suppressors": {}, "further": {}}))
    plan = from_records(plan, page)
    assert Comparison(plan, read_all_finished(plan)).missing == [
        "the suppressors on stage_0",
        "the evaluation raised of stage_0",
    ]


def test_suppressors_far_below_the_best_have_no_resamples():
    aps = {"a": 40.0, "b": 40.0 - BELOW_BEST, "c": 39.9 - BELOW_BEST, "d": None}
    assert _good({name: {"figures": {"AP": ap}} for name, ap in aps.items()}) == ["a", "b", "d"]
    assert _good({}) == []


def test_what_is_written_is_read(tmp_path):
    """AP is kept in hundredths of a per cent, and NaN is kept."""
    drawn = {"nms": np.array([0.0, 100.0, 41.2345, np.nan]), "x:y+z": np.array([1.0] * 4)}
    sides = [ClusterIoUs(*torch.rand(3, size)) for size in (5, 0)]
    for placement in (tuple(sides), (sides[0], None), None):
        path = tmp_path / "arm_1.json"
        val = ValSet("ab", 3, 7, 2)
        write_recorded(path, Recorded({"arm": "arm"}, val, {"r": {"AP": None}}, drawn, placement))
        found = read_recorded(path)
        assert (found.val, found.further) == (val, {"r": {"AP": None}})
        np.testing.assert_array_equal(found.drawn["nms"], [0.0, 100.0, 41.23, np.nan])
        assert found.drawn.keys() == drawn.keys()
        assert (found.placement is None) == (placement is None)
        for one, other in zip(found.placement or (), placement or (), strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                assert all(map(torch.equal, vars(one).values(), vars(other).values()))


def test_a_finished_run_tells_the_rows_of_its_record(made):
    plan, page = made
    forget(plan, "stage_0")
    plan = from_records(plan, page)
    run = next(part for part in read_all_finished(plan) if part.run.name == "stage_0")
    assert isinstance(run, FinishedRun)
    assert isinstance(run.evaluation, Evaluation)
    assert run.has("raised:post_nms")
    assert run.recorded("raised:post_nms")["AP"] >= 0
    assert not run.has("raised:other")
