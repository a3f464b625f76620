"""State dicts of other programs, and weights that must fit exactly."""

import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from postnms.errors import UserError
from postnms.files.state_dicts import load_weights, read_state_dict


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_tensors_come_back_by_name(tmp_path, name):
    state = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}
    path = tmp_path / name
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    found = read_state_dict(path, "weights")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_what_is_no_state_dict_is_named_and_not_run(tmp_path):
    ran = tmp_path / "ran"

    class Loud:
        def __reduce__(self):
            return (os.mkdir, (str(ran),))

    torch.save({"model": {"weight": torch.ones(1)}, "epoch": 3}, tmp_path / "nested.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    torch.save({"weight": Loud()}, tmp_path / "loud.pth")
    (tmp_path / "text.pth").write_text("text")
    (tmp_path / "text.safetensors").write_text("text")
    (tmp_path / "empty.pth").write_bytes(b"")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(UserError, match=rf"^init: .*{path.name} is not a plain state dict"):
            read_state_dict(path, "init")
    assert not ran.exists()
    with pytest.raises(UserError, match="state dict; it holds model, epoch"):
        read_state_dict(tmp_path / "nested.pth", "init")
    with pytest.raises(UserError, match=r"^init: expected a file, got '.*none\.pth'"):
        read_state_dict(tmp_path / "none.pth", "init")


def test_weights_must_fit_exactly():
    module = nn.Linear(3, 2)
    good = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    load_weights(module, good, "run")
    assert torch.equal(module.weight, good["weight"])
    wrong = {"weight": torch.ones(3, 3), "other": torch.ones(1)}
    with pytest.raises(
        UserError,
        match=r"^run: the weights do not fit the model: bias is missing; other is not in the "
        r"model; weight has shape \(3, 3\), expected \(2, 3\)$",
    ):
        load_weights(module, wrong, "run")
    with pytest.raises(UserError, match=r" and 2 more$"):
        load_weights(module, {**wrong, **{name: torch.ones(1) for name in "ab"}}, "run")
