"""The weights with the best AP: when they are written, and a run that ends with them."""

import dataclasses

import pytest
import torch

from postnms.files.tensor_files import load_tensors
from postnms.runs.checkpoints import own_state
from postnms.runs.folder import RunFolder
from postnms.runs.loading import load_detector
from postnms.training import loop
from tests.support.runs import run, tiny, weights_of

RUN = ("training.iterations=4", "training.evaluate_every=1", "training.checkpoint_every=2")


@pytest.fixture
def aps(monkeypatch):
    """Let the evaluations of a run have the AP that a list says, one after another."""
    values = []
    evaluate = loop.evaluate_detector

    def with_ap(*args, **options):
        evaluation, results = evaluate(*args, **options)
        rows = {name: {**row, "AP": values[0]} for name, row in evaluation.rows.items()}
        values.pop(0)
        return dataclasses.replace(evaluation, rows=rows), results

    monkeypatch.setattr(loop, "evaluate_detector", with_ap)
    return values


def kept(folder):
    tensors, facts = load_tensors(folder.best)
    return own_state(tensors), facts


def test_the_first_of_the_best_evaluations_is_kept(tmp_path, aps):
    aps += [0.1, 0.5, 0.5, 0.2]
    run(tmp_path, tiny(*RUN))
    weights, facts = kept(RunFolder(tmp_path))
    assert facts == {"ap": 0.5, "row": "post_nms", "finished": 2}
    last = weights_of(RunFolder(tmp_path))
    assert any(not torch.equal(value, last[name]) for name, value in weights.items())


def test_a_run_can_end_with_the_best_weights(tmp_path, aps):
    aps += [0.1, 0.5, 0.3, 0.2, 0.5]  # the best weights are evaluated again
    found = run(tmp_path, tiny(*RUN, "training.final_weights=best")).state_dict()
    folder = RunFolder(tmp_path)
    weights, _ = kept(folder)
    last = weights_of(folder)
    assert not aps
    for name, value in weights.items():
        assert torch.equal(value, found[name])
        assert torch.equal(value, last[name])
    # The checkpoint has the last weights, so it cannot take the place of damaged best ones.
    folder.weights.write_bytes(b"damaged")
    again = load_detector(folder).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in weights.items())


def test_the_last_weights_may_be_the_best(tmp_path, aps):
    aps += [0.1, 0.2, 0.3, 0.4]
    run(tmp_path, tiny(*RUN, "training.final_weights=best"))
    assert kept(RunFolder(tmp_path))[1]["finished"] == 4


def test_without_an_ap_there_are_no_best_weights(tmp_path, aps):
    aps += [None] * 4
    run(tmp_path, tiny(*RUN, "training.final_weights=best"))
    assert not RunFolder(tmp_path).best.exists()
    assert RunFolder(tmp_path).weights.is_file()


def test_a_resumed_run_knows_the_best_ap(tmp_path, aps, before_steps):
    aps += [0.1, 0.5, 0.2, 0.3]

    def stop_in_the_fourth(number, _):
        if number == 4:
            raise KeyboardInterrupt

    before_steps(stop_in_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tiny(*RUN))
    before_steps(lambda *_: None)
    aps[:] = [0.2, 0.3]
    run(tmp_path, tiny(*RUN), resume=True)
    assert kept(RunFolder(tmp_path))[1] == {"ap": 0.5, "row": "post_nms", "finished": 2}
