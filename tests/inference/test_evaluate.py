"""A detector over a split: its results do not depend on how the images are taken together."""

import copy
import dataclasses
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from postnms.data import Dataset
from postnms.data.columns import Entries
from postnms.data.loader import DetectionData
from postnms.errors import UserError
from postnms.evaluation.metrics import evaluate_rows
from postnms.inference import evaluate
from postnms.inference.evaluate import detect_split, evaluate_detector
from postnms.runs.folder import RunFolder
from postnms.runs.loading import load_detector
from postnms.training import loop as training
from tests.support.runs import contents, run, splits_of, tiny


@pytest.fixture
def detector(trained_run):
    return load_detector(RunFolder(trained_run))


@pytest.fixture(scope="module")
def val():
    return splits_of(tiny()).val


def as_dicts(results):
    return {row: list(Entries(columns)) for row, columns in results.items()}


def test_an_evaluation_is_that_of_the_training(detector, val, trained_run):
    evaluation, results = evaluate_detector(detector, val, batch_size=8, bootstrap=20)
    written = contents(trained_run)
    assert evaluation.to_json() == written.pop("metrics.json")
    assert {f"results_{row}.json": of_row for row, of_row in as_dicts(results).items()} == written


def test_progress_counts_the_images_of_every_batch(detector, val):
    finished = []
    detect_split(detector, val, 2, done=finished.append)
    assert finished == [2, 1]


def test_processes_share_the_images(detector, val):
    whole = as_dicts(detect_split(detector, val, 1))
    parts = [as_dicts(detect_split(detector, val, 1, rank, 2)) for rank in range(2)]
    for row, entries in whole.items():
        images = [{entry["image_id"] for entry in part[row]} for part in parts]
        assert not images[0] & images[1]
        both = [entry for part in parts for entry in part[row]]
        assert sorted(map(str, both)) == sorted(map(str, entries))


def test_the_mode_of_the_detector_is_restored(detector, val):
    detector.train()
    detect_split(detector, val, 3)
    assert detector.training


def test_a_split_without_annotations_has_results_alone(detector, val):
    dataset = val.dataset
    truth = dataclasses.replace(dataset.truth, annotated=False)
    hidden = DetectionData(Dataset(truth, dataset.records), val.min_size, val.max_size)
    evaluation, results = evaluate_detector(detector, hidden)
    assert evaluation is None
    assert as_dicts(results) == as_dicts(detect_split(detector, val, 8))


def test_the_first_of_two_processes_measures_the_results_of_both(detector, val, monkeypatch):
    """Two threads stand for the processes, and meet where processes exchange objects."""
    expected = evaluate_detector(detector, val, batch_size=1, bootstrap=5)
    measured, gathered, figures = [], {}, queue.Queue()
    both_gathered = threading.Barrier(2, timeout=60)
    rank = threading.local()

    def gather(results, parts):
        gathered[rank.value] = results
        both_gathered.wait()
        assert (parts is None) == (rank.value == 1)
        if parts is not None:
            parts[:] = [gathered[0], gathered[1]]

    def broadcast_objects(values):
        if rank.value == 0:
            figures.put(values)
        return figures.get(timeout=60) if rank.value == 1 else values

    def measure(*args, **options):
        measured.append(rank.value)
        return evaluate_rows(*args, **options)

    def process(number):
        rank.value = number
        pair = SimpleNamespace(process_index=number, num_processes=2)
        own = copy.deepcopy(detector)
        return evaluate_detector(own, val, batch_size=1, bootstrap=5, accelerator=pair)

    monkeypatch.setattr(evaluate.distributed, "gather_object", gather)
    monkeypatch.setattr(evaluate, "broadcast_object_list", broadcast_objects)
    monkeypatch.setattr(evaluate, "gather_object", list)
    monkeypatch.setattr(evaluate, "broadcast", list)
    monkeypatch.setattr(evaluate, "evaluate_rows", measure)
    with ThreadPoolExecutor(2) as pool:
        (first, all_results), (second, none) = pool.map(process, range(2))
    assert measured == [0]
    assert first == second == expected[0]
    assert first.gains["post_nms"].low is not None
    for row, entries in as_dicts(expected[1]).items():
        assert len(entries) > 0
        assert sorted(map(str, Entries(all_results[row]))) == sorted(map(str, entries))
        assert len(none[row]) == 0


def test_a_stage_that_diverges_in_the_last_step_is_named_when_it_is_evaluated(
    tmp_path, monkeypatch
):
    """The losses of that step were finite, so nothing else has stopped the training."""
    step, calls = training.training_step, []

    def breaking(model, *args):
        losses = step(model, *args)
        calls.append(losses)
        if len(calls) == 2:
            torch.nn.init.constant_(model.stage.heads.refinement.weight, torch.inf)
        return losses

    monkeypatch.setattr(training, "training_step", breaking)
    with pytest.raises(
        UserError, match=r"^stage: refinement: \d+ of \d+ outputs are NaN or infinite"
    ):
        run(tmp_path, tiny("training.iterations=2"))
    assert all(torch.isfinite(loss) for losses in calls for loss in losses.values())
