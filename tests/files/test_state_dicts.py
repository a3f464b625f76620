"""State dicts of other programs, and weights that must fit exactly."""

import os
from argparse import Namespace
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from postnms.errors import UserError
from postnms.files.state_dicts import NESTED, load_weights, read_state_dict


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

    torch.save([torch.ones(1)], tmp_path / "list.pth")
    torch.save({"weight": Loud()}, tmp_path / "loud.pth")
    (tmp_path / "text.pth").write_text("text")
    (tmp_path / "text.safetensors").write_text("text")
    (tmp_path / "empty.pth").write_bytes(b"")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(UserError, match=rf"^init: .*{path.name} is not a plain state dict"):
            read_state_dict(path, "init")
    assert not ran.exists()
    with pytest.raises(UserError, match=r"^init: expected a file, got '.*none\.pth'"):
        read_state_dict(tmp_path / "none.pth", "init")


STATE = {"conv.weight": torch.arange(6.0).view(2, 3), "bn.num_batches_tracked": torch.tensor(3)}
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}


def named(*prefixes):
    return {"".join(prefixes) + name: tensor for name, tensor in STATE.items()}


WRAPPED = [
    *({name: STATE, "epoch": 3, "optimizer": OPTIMIZER} for name in NESTED),
    {"model": OrderedDict(STATE), "args": Namespace(lr=0.1, path="a"), "ema": None},
    {"state_dict": named("model."), "hyper_parameters": {"lr": 0.1}},
    {"model": STATE, "optimizer": OPTIMIZER, "ema": {}},
    named("module."),
    named("_orig_mod."),
    named("module.", "_orig_mod."),
    named("_orig_mod.", "module."),
    {"model_ema": {"n_averaged": torch.tensor(5), **named("module.")}, "best": 1.5},
]


@pytest.mark.parametrize("content", WRAPPED)
def test_a_state_dict_is_found_in_what_programs_put_around_it(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    found = read_state_dict(tmp_path / "a.pth", "init")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_prefixes_are_taken_away_in_safetensors_too(tmp_path):
    save_file(named("module."), tmp_path / "a.safetensors")
    assert read_state_dict(tmp_path / "a.safetensors", "init").keys() == STATE.keys()


def test_a_prefix_that_not_every_name_has_belongs_to_the_names(tmp_path):
    mixed = {**named("module."), "head.weight": torch.ones(1)}
    counter = {"n_averaged": torch.tensor(1), "weight": torch.ones(1)}
    for state in (mixed, counter):
        torch.save(state, tmp_path / "a.pth")
        assert read_state_dict(tmp_path / "a.pth", "init").keys() == state.keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": STATE, "ema": STATE}, "holds several state dicts: model, ema; save the one"),
        (
            {"detector": STATE, "epoch": 3},
            r"is not a plain state dict, and holds none as model, .*; it holds detector \(dict\), "
            r"epoch \(int\)$",
        ),
        ({"checkpoint": {"model": STATE}}, r"it holds checkpoint \(dict\)$"),
        ({"model": {"weight": [1.0]}}, r"it holds model \(dict\)$"),
        ({0: torch.ones(1)}, r"it holds 0 \(Tensor\)$"),
        ({str(n): n for n in range(7)}, r"it holds 0 \(int\), .*4 \(int\), \.\.\.$"),
        ({"model": torch.ones(2), "n": 3}, r"it holds model \(Tensor\), n \(int\)$"),
        ([torch.ones(1)], "is not a plain state dict; it holds a list$"),
    ],
)
def test_what_holds_no_state_dict_or_several_says_what_is_inside(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf"^init: .*a\.pth .*{message}"):
        read_state_dict(tmp_path / "a.pth", "init")


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
