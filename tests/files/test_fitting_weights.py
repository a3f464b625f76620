"""Weights of other classes: what starts anew, what is left out, and what is an error."""

import pytest
import torch
from torch import nn

from postnms.errors import UserError
from postnms.files.fitting_weights import load_fitting_weights


class Model(nn.Module):
    """A body of two layers and a head; the head has ``classes`` scores, and 4 boxes a class."""

    def __init__(self, classes, depth=2, width=5):
        super().__init__()
        self.body = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Module()
        self.head.scores = nn.ModuleList([nn.Linear(width, classes), nn.Linear(width, 2 * classes)])
        self.head.boxes = nn.Linear(width, 4 * classes)


LAYERS = ("head.scores.*", "head.boxes")
NAMES = "head.scores.*, head.boxes"
CLASS_TENSORS = [
    f"head.{layer}.{kind}"
    for layer in ("scores.0", "scores.1", "boxes")
    for kind in ("weight", "bias")
]


def made(classes, seed, **settings):
    torch.manual_seed(seed)
    return Model(classes, **settings)


def check(state, renewed, note, classes=3, **options):
    """Load; compare what is said, and where every tensor comes from."""
    model = made(classes, seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert load_fitting_weights(model, state, "file", LAYERS, classes, **options) == note
    for name, value in model.state_dict().items():
        expected = before[name] if name in renewed else state[name]
        assert torch.equal(value, expected), name


def test_what_fits_is_loaded_whole():
    check(made(3, 0).state_dict(), [], "")


@pytest.mark.parametrize("classes", [1, 2, 7, 91])
def test_class_layers_of_another_size_start_anew(classes):
    check(
        made(classes, 0).state_dict(), CLASS_TENSORS, f"renewed: {NAMES} ({classes} -> 3 outputs)"
    )


def test_class_layers_of_other_classes_start_anew_although_they_fit():
    check(made(3, 0).state_dict(), CLASS_TENSORS, f"renewed: {NAMES} (other classes)", renew=True)
    note = f"renewed: {NAMES} (4 -> 3 outputs)"
    check(made(4, 0).state_dict(), CLASS_TENSORS, note, renew=True)


def test_class_layers_that_are_not_there_start_anew():
    state = {k: v for k, v in made(3, 0).state_dict().items() if not k.startswith("head.boxes")}
    check(state, CLASS_TENSORS, f"renewed: {NAMES} (not in the file)")


@pytest.mark.parametrize("lacking", ["head.scores.1", "norm"])
def test_layers_that_may_lack_keep_their_weights_and_renew_no_other(lacking):
    whole = made(3, 0).state_dict()
    absent = [name for name in whole if name.startswith(lacking)]
    state = {name: value for name, value in whole.items() if name not in absent}
    check(state, absent, f"initial: {lacking} (not in the file)", may_lack=[lacking])
    check(whole, [], "", may_lack=[lacking])
    with pytest.raises(UserError, match=r"norm\.weight is missing"):
        check(without("norm.weight"), [], "", may_lack=["norm"])
    # Where class layers start anew, those that may lack are among them.
    if lacking != "norm":
        check(state, CLASS_TENSORS, f"renewed: {NAMES} (other classes)", renew=True)


def test_parts_that_the_model_does_not_have_are_left_out_and_named():
    further = {"mask.a.weight": torch.ones(1), "mask.a.bias": torch.ones(1)}
    further |= {"head.masks.0.weight": torch.ones(1)}
    check(made(3, 0).state_dict() | further, [], "unused: head.masks, mask.a (3 tensors)")
    note = f"renewed: {NAMES} (9 -> 3 outputs); unused: head.masks, mask.a (3 tensors)"
    check(made(9, 0).state_dict() | further, CLASS_TENSORS, note)
    many = {f"{letter}.x.weight": torch.ones(1) for letter in "tuvwxyz"}
    note = "unused: t.x, u.x, v.x, w.x, x.x, ... (7 tensors)"
    check(made(3, 0).state_dict() | many, [], note)


def without(*names):
    return {name: value for name, value in made(9, 0).state_dict().items() if name not in names}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (made(9, 0, depth=3).state_dict(), r"body\.2\.weight is not in the model; body\.2\.bias"),
        (made(9, 0, depth=1).state_dict(), r"body\.1\.weight is missing; body\.1\.bias is missing"),
        (
            made(9, 0, width=6).state_dict(),
            r"body\.0\.weight has shape \(6, 6\), expected \(5, 5\)",
        ),
        (without("body.0.bias"), r"body\.0\.bias is missing$"),
        (without() | {"body.0.scale": torch.ones(5)}, r"body\.0\.scale is not in the model$"),
        (without() | {"scale": torch.ones(5)}, r"model: scale is not in the model$"),
        (without() | {"head.scores.2.bias": torch.ones(5)}, r"head\.scores\.2\.bias is not in the"),
        (
            without() | {"head.boxes.weight": torch.ones(36, 4)},
            r"boxes\.weight has shape \(36, 4\)",
        ),
        (without() | {"head.boxes.bias": torch.ones(13)}, r"boxes\.bias has shape \(13,\)"),
        (without() | {"head.boxes.bias": torch.ones(0)}, r"boxes\.bias has shape \(0,\)"),
        (without() | {"head.boxes.bias": torch.tensor(1)}, r"boxes\.bias has shape \(\)"),
        ({"a.b": torch.ones(1)}, r"body\.0\.weight is missing; .* and 6 more$"),
        ({}, r"body\.0\.weight is missing; body\.0\.bias is missing; body.*missing and 6 more"),
    ],
)
def test_whatever_else_does_not_fit_is_an_error(state, message):
    with pytest.raises(UserError, match=rf"^file: the weights do not fit the .*{message}"):
        load_fitting_weights(made(3, 1), state, "file", LAYERS, 3)
