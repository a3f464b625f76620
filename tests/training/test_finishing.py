"""The finishing phase: the stage alone is trained on, on the detector that the run has trained."""

import pytest
import torch
from pydantic import ValidationError

from postnms.detectors import Detector
from postnms.errors import UserError
from postnms.recipes import TrainingConfig
from postnms.training import loop
from postnms.training.schedule import schedule_of
from tests.support.runs import logged, run, splits_of, tiny

PHASES = ("training.iterations=4", "training.finish_iterations=3", "training.checkpoint_every=1")


def split(state):
    """Return the weights of the network and those of the stage."""
    stage = {name: value for name, value in state.items() if name.startswith("stage.")}
    return {name: value for name, value in state.items() if name not in stage}, stage


def same(some, others):
    assert some.keys() == others.keys()
    return all(torch.equal(some[name], others[name]) for name in some)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with both phases: its folder and its weights."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, run(folder, tiny(*PHASES)).state_dict()


def test_the_detector_stays_what_it_is_without_the_phase(whole, tmp_path):
    joint = split(run(tmp_path / "joint", tiny("training.iterations=4")).state_dict())
    assert same(split(whole[1])[0], joint[0])
    assert not same(split(whole[1])[1], joint[1])
    losses = logged(whole[0])
    assert [len(of_step) for of_step in losses.values()] == [6] * 4 + [2] * 3


def test_images_are_turned_alone_and_remembered(tmp_path, monkeypatch):
    calls = []
    compute = Detector._frozen_outputs

    def counted(detector, batch):
        calls.append(len(batch.sizes))
        return compute(detector, batch)

    monkeypatch.setattr(Detector, "_frozen_outputs", counted)
    changes = ("training.finish_iterations=12", "data.augmentation.brightness=0.5")
    run(tmp_path / "run", tiny("training.iterations=1", *changes))
    # Six images and their mirror images; two of them come in each iteration.
    assert 6 <= sum(calls) <= 12


def test_a_run_without_the_phase_opens_one_loader(tmp_path, monkeypatch):
    """A loader starts processes, so one without a batch is not opened."""
    opened = []
    original = loop.new_loader

    def counted(*args, **options):
        opened.append(args)
        return original(*args, **options)

    monkeypatch.setattr(loop, "new_loader", counted)
    run(tmp_path / "run", tiny("training.iterations=1"))
    assert len(opened) == 1


AVERAGED = (*PHASES, "training.average_decay=0.5", "training.optimizer=adamw")


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "averaged"
    return folder, run(folder, tiny(*AVERAGED)).state_dict()


def test_the_phase_begins_from_the_average_of_the_weights(averaged, tmp_path):
    joint = run(tmp_path / "joint", tiny(*AVERAGED, "training.finish_iterations=0"))
    assert same(split(averaged[1])[0], split(joint.state_dict())[0])


def test_a_run_that_is_stopped_within_the_phase_goes_on_to_the_last_digit(
    averaged, tmp_path, before_steps, monkeypatch
):
    """A killed run of two processes in ``test_resume.py`` is stopped before the phase."""

    def stop(number, _):
        if number == 7:
            raise KeyboardInterrupt

    before_steps(stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", tiny(*AVERAGED))
    monkeypatch.undo()
    resumed = run(tmp_path / "run", tiny(*AVERAGED), resume=True).state_dict()
    assert same(resumed, averaged[1])
    assert logged(tmp_path / "run") == logged(averaged[0])


def test_a_finished_run_may_get_a_phase_but_no_further_iteration_before_it(whole, tmp_path):
    run(tmp_path / "run", tiny("training.iterations=4"))
    added = run(tmp_path / "run", tiny(*PHASES), resume=True).state_dict()
    assert same(added, whole[1])
    more = tiny(*PHASES, "training.iterations=5")
    with pytest.raises(UserError, match="iterations: expected 4, as the finishing phase has begun"):
        run(tmp_path / "run", more, resume=True)


def test_the_run_is_evaluated_before_the_phase(whole):
    lines = (whole[0] / "log.jsonl").read_text().splitlines()
    assert [number for number, line in enumerate(lines, 1) if "nms/AP" in line] == [5, 9]


def test_the_rate_falls_to_zero_from_its_own_start():
    config = TrainingConfig(
        iterations=2, lr=1.0, warmup_iterations=0, finish_iterations=4, finish_lr=0.5
    )
    schedule = schedule_of(config, per_epoch=1)
    rates = [schedule.learning_rate(iteration) for iteration in range(6)]
    assert rates == pytest.approx([1, 1, 0.5, 0.25 + 0.25 * 0.5**0.5, 0.25, 0.25 - 0.25 * 0.5**0.5])
    assert (schedule.iterations, schedule.joint) == (6, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stage=null", "leave nothing to train without a stage"),
        ("stage.candidates=sampled", "need stage.candidates 'proposals', got 'sampled'"),
    ],
)
def test_a_phase_that_cannot_be_is_refused(change, message):
    with pytest.raises((UserError, ValidationError), match=message):
        tiny("training.finish_iterations=1 epoch", change)


def test_a_frozen_detector_has_no_phase_of_its_own():
    frozen = ("training.freeze=detector", "training.start_from=weights.pth")
    with pytest.raises(UserError, match="expected 0 for a frozen detector"):
        tiny("training.finish_iterations=2", *frozen)


def test_data_that_are_only_turned_share_their_images():
    data = splits_of(tiny("data.augmentation.brightness=0.5")).train
    turned = data.only_turned()
    assert turned.augmentation == data.augmentation.turns
    assert data.augmentation.brightness == 0.5
    assert turned.cache is data.cache
