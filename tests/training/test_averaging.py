"""The moving average of the weights: its values, and runs that keep it."""

import pytest
import torch

from postnms.errors import UserError
from postnms.files.tensor_files import load_tensors, save_tensors
from postnms.runs.checkpoints import result_state
from postnms.runs.folder import RunFolder
from postnms.runs.loading import build_run_detector, load_detector
from postnms.training.averaging import WeightAverage
from tests.support.runs import run, tiny, weights_of

AVERAGED = ("training.iterations=6", "training.checkpoint_every=3", "training.average_decay=0.5")


def detector():
    return build_run_detector(tiny("training.iterations=1", "detector.backbone.norm=trained"), 5)


def test_the_average_is_that_of_a_plain_loop():
    torch.manual_seed(0)
    trained = detector()
    average = WeightAverage(trained, decay=0.4)
    expected = {name: value.clone().double() for name, value in trained.state_dict().items()}
    for iteration in range(1, 6):
        for value in trained.state_dict().values():
            value.add_(torch.rand(value.shape) if value.is_floating_point() else 1)
        average.update(trained)
        decay = min(0.4, (1 + iteration) / (10 + iteration))
        for name, value in trained.state_dict().items():
            counts = not value.is_floating_point()
            expected[name] = value if counts else decay * expected[name] + (1 - decay) * value
    own = average.detector.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(own[name].double(), value.double(), rtol=1e-5, atol=1e-6)


def test_the_averaged_weights_are_evaluated_and_kept(tmp_path):
    found = run(tmp_path, tiny(*AVERAGED))
    folder = RunFolder(tmp_path)
    kept = weights_of(folder)
    assert all(torch.equal(value, kept[name]) for name, value in found.state_dict().items())
    tensors, _ = load_tensors(folder.checkpoint)
    last = tensors["model.network.backbone.fpn.layer_blocks.0.0.weight"]
    assert not torch.equal(last, kept["network.backbone.fpn.layer_blocks.0.0.weight"])
    # A run that is not finished is evaluated with its average as well.
    assert all(torch.equal(value, kept[name]) for name, value in result_state(tensors).items())
    folder.weights.unlink()
    loaded = load_detector(folder).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in loaded.items())


def test_a_run_with_an_average_resumes_to_the_last_digit(tmp_path, monkeypatch, before_steps):
    whole = run(tmp_path / "whole", tiny(*AVERAGED)).state_dict()

    def stop_in_the_fifth(number, _):
        if number == 5:
            raise KeyboardInterrupt

    before_steps(stop_in_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", tiny(*AVERAGED))
    monkeypatch.undo()
    resumed = run(tmp_path / "part", tiny(*AVERAGED), resume=True).state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_a_checkpoint_without_its_average_is_not_whole(tmp_path):
    run(tmp_path, tiny(*AVERAGED))
    folder = RunFolder(tmp_path)
    tensors, about = load_tensors(folder.checkpoint)
    left = {name: value for name, value in tensors.items() if not name.startswith("average.")}
    save_tensors(folder.checkpoint, left, about)
    with pytest.raises(UserError, match="expected the average of the weights"):
        run(tmp_path, tiny(*AVERAGED), resume=True)
