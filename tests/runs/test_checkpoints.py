"""Checkpoints hold all that changes while training, and survive a full disk."""

import errno

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn
from torch.optim import SGD, AdamW

from postnms.errors import UserError
from postnms.runs import checkpoints
from postnms.runs.checkpoints import (
    load_tensors,
    restore_training_state,
    save_tensors,
    training_state,
)


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


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("No space left")]
)
def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch, error):
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"a": torch.ones(2)}, {})

    def fill(_tensors, temporary, _metadata):
        temporary.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoints, "save_file", fill)
    with pytest.raises(
        UserError, match=r"state\.safetensors: could not be written \(.*No space left"
    ):
        save_tensors(path, {"a": torch.zeros(2)}, {})
    monkeypatch.undo()
    assert load_tensors(path)[0]["a"].tolist() == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


def test_foreign_and_broken_files(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(UserError, match=r"x\.safetensors: no such file"):
        load_tensors(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(UserError, match="expected format 'postnms-1', got None"):
        load_tensors(path)
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_tensors(path)
    save_tensors(path, {"a": torch.ones(1000)}, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_tensors(path)


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
