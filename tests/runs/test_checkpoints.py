"""Checkpoints hold all that changes while training, and an older one replaces a damaged one."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from postnms.errors import UserError
from postnms.files.tensor_files import load_tensors, save_tensors
from postnms.runs.checkpoints import (
    read_checkpoint,
    read_newest_weights,
    restore_training_state,
    training_state,
)
from postnms.runs.folder import RunFolder


def a_model(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 1))


def step(model, optimizer):
    optimizer.zero_grad()
    model(torch.rand(3, 1, 4, 4)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("kind", [lambda p: SGD(p, 0.1, momentum=0.9), lambda p: AdamW(p, 0.1)])
def test_training_goes_on_from_a_file_as_if_nothing_had_been(tmp_path, kind):
    model = a_model(0)
    optimizer = kind(model.parameters())
    for _ in range(3):
        step(model, optimizer)
    path = tmp_path / "state.safetensors"
    save_tensors(
        path, training_state(model, optimizer, {"cpu": torch.get_rng_state()}), {"finished": 3}
    )
    step(model, optimizer)

    other = a_model(1)
    other_optimizer = kind(other.parameters())
    tensors, about = load_tensors(path)
    torch.set_rng_state(restore_training_state(tensors, other, other_optimizer, "state")["cpu"])
    step(other, other_optimizer)
    assert about == {"finished": 3}
    for mine, theirs in zip(other.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def a_run(folder, *iterations, damaged=()):
    """A run folder with checkpoints of the given iterations, the last one first."""
    run = RunFolder(folder)
    about = {"iterations": 4}
    for file, finished in zip((run.checkpoint, run.older_checkpoint), iterations, strict=False):
        tensors = {"model.network.a": torch.tensor([finished])}
        save_tensors(file, tensors, {**about, "finished": finished})
    for file in damaged:
        flip_bit(folder / file)
    return run


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_older_checkpoint_is_used_with_a_word_if_the_last_one_is_damaged(tmp_path, caplog):
    run = a_run(tmp_path, 4, 2)
    assert read_checkpoint(run)[1]["finished"] == 4
    assert caplog.messages == []
    flip_bit(run.checkpoint)
    tensors, about, source = read_checkpoint(run)
    assert (about["finished"], source) == (2, run.older_checkpoint)
    assert tensors["model.network.a"].tolist() == [2]
    assert [
        message.partition("checkpoint.safetensors: ")[2].partition(";")[::2]
        for message in caplog.messages
    ] == [
        (
            "is damaged (its content does not have its checksum)",
            " using the one before it, of iteration 2",
        )
    ]
    flip_bit(run.older_checkpoint)
    with pytest.raises(UserError, match=r"checkpoint\.older\.safetensors: is damaged"):
        read_checkpoint(run)


def test_a_kill_between_the_two_renamings_leaves_the_older_checkpoint(tmp_path, caplog):
    run = a_run(tmp_path, 4, 2)
    run.checkpoint.unlink()
    assert read_checkpoint(run)[1]["finished"] == 2
    assert "checkpoint.safetensors: no such file" in caplog.text


@pytest.mark.parametrize("finished", [4, 3])
def test_damaged_weights_are_those_of_the_checkpoint_if_that_is_the_end(tmp_path, caplog, finished):
    run = a_run(tmp_path, finished)
    save_tensors(run.weights, {"model.network.a": torch.tensor([7])}, {})
    assert read_newest_weights(run)[0]["network.a"].tolist() == [7]
    flip_bit(run.weights)
    if finished == 4:
        weights, source = read_newest_weights(run)
        assert (weights["network.a"].tolist(), source) == ([4], run.checkpoint)
        assert "weights.safetensors: is damaged" in caplog.text
    else:
        with pytest.raises(UserError, match=r"weights\.safetensors: is damaged"):
            read_newest_weights(run)


def test_the_state_of_an_optimizer_under_other_names_is_refused():
    model = a_model(0)
    optimizer = SGD(model.parameters(), 0.1)
    for name in ("optimizer.first.momentum", "optimizer.0"):
        tensors = {**training_state(model, optimizer, {}), name: torch.zeros(1)}
        with pytest.raises(UserError, match=rf"run: {name}: expected optimizer.NUMBER.NAME"):
            restore_training_state(tensors, model, optimizer, "run")


def test_weights_that_do_not_fit_are_named():
    model = a_model(0)
    tensors = training_state(model, SGD(model.parameters(), 0.1), {})
    tensors["model.3.weight"] = torch.zeros(1, 9)
    tensors["model.extra"] = tensors.pop("model.0.bias")
    other = a_model(0)
    with pytest.raises(UserError) as error:
        restore_training_state(tensors, other, SGD(other.parameters(), 0.1), "run")
    assert (
        "run: the weights do not fit the model: 0.bias is missing; extra is not in the model; "
        in str(error.value)
    )
    assert "3.weight has shape (1, 9), expected (1, 8)" in str(error.value)
