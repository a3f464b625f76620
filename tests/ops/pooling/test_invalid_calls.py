"""Every invalid call of the poolings is a ValueError that begins with the argument's name."""

import re

import numpy as np
import pytest
import torch

from postnms.ops import pool_convolved, pool_pyramid
from tests.support.odd_tensors import NOT_FLOATING, NOT_INTEGER, never_dense

NAN, INF = float("nan"), float("inf")
LEVELS = {"0": torch.zeros(2, 3, 8, 8), "1": torch.zeros(2, 3, 4, 4)}
GOOD = {
    "features": LEVELS,
    "boxes": torch.tensor([[0.0, 0, 16, 16], [8, 8, 24, 24]]),
    "image": torch.tensor([0, 1]),
    "strides": [4, 8],
}
LAYER = {"weight": torch.zeros(5, 3, 3, 3), "bias": torch.zeros(5)}
COUNTS = [0, -1, 1.0, 2.5, "7", None, True, [7], torch.tensor(7), np.float32(7)]


def box(place, value):
    changed = GOOD["boxes"].clone()
    changed[1, place] = value
    return changed


WRONG = {
    "boxes": [torch.zeros(shape) for shape in [(), (4,), (2, 5), (4, 2), (1, 2, 4)]]
    + [box(place, value) for place in range(4) for value in (NAN, INF, -INF)]
    + [box(0, 25.0), box(1, 25.0)],
    "image": [torch.zeros(shape).long() for shape in [(), (1,), (3,), (2, 1)]]
    + [torch.tensor([0, number]) for number in (2, -1, 2**62, -(2**63))],
    "strides": [
        *(
            [],
            [4],
            [4, 8, 16],
            [8, 4],
            [8, 7.9],
            [4, 8.1],
            [4, 16],
            [0, 0],
            [-4, -8],
            [INF, INF],
            [NAN, NAN],
        ),
        *(["4", "8"], "48", None, 4, torch.tensor([4, 8]), {4: 8}, [True, 2]),
    ],
    "features": [{}, [], None, "levels", LEVELS["0"], list(LEVELS.values())],
    "weight": [torch.zeros(shape) for shape in [(5, 3, 3), (5, 4, 3, 3), (5, 3, 1, 3), (5,)]],
    "bias": [torch.zeros(shape) for shape in [(), (4,), (5, 1)]],
}
LEVEL = [torch.zeros(shape) for shape in [(), (3, 4, 4), (2, 4, 4, 4), (1, 3, 4, 4)]]
LEVEL += [torch.zeros(2, 3, 0, 4), torch.zeros(2, 3, 4, 0), torch.zeros(2, 3, 4, 4).double()]


def calls():
    """All invalid calls: the argument at fault, the one that changes, and its value."""
    for name in ("boxes", "image", "weight", "bias"):
        dtypes = NOT_INTEGER if name == "image" else NOT_FLOATING
        shape = {**GOOD, **LAYER}[name].shape
        odd = [*never_dense().values(), None, *(torch.zeros(shape, dtype=t) for t in dtypes)]
        yield from ((name, name, value) for value in odd)
    for name, values in WRONG.items():
        yield from ((name, name, value) for value in values)
    odd = [*never_dense().values(), None, *LEVEL]
    odd += [torch.zeros(2, 3, 4, 4, dtype=dtype) for dtype in NOT_FLOATING]
    yield from (("features['1']", "features", LEVELS | {"1": value}) for value in odd)
    yield from (("cells", "cells", value) for value in COUNTS)
    yield from (("sampling_ratio", "sampling_ratio", value) for value in COUNTS)


CALLS = {f"{call[0]} {number}": call for number, call in enumerate(calls())}


@pytest.mark.parametrize("call", CALLS)
def test_an_invalid_call_names_its_argument(call):
    at_fault, name, value = CALLS[call]
    poolings = []
    if name not in LAYER:
        poolings.append((pool_pyramid, GOOD))
    if name != "sampling_ratio":
        poolings.append((pool_convolved, GOOD | LAYER))
    for pool, given in poolings:
        message = f"^{re.escape(at_fault)}: .*expected .*got "
        with pytest.raises(ValueError, match=message) as caught:
            pool(**{**given, name: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"strides": [4, 12]},
            r"strides: expected numbers > 0, each one to two times .*, got \[4, 12\]",
        ),
        ({"strides": [4]}, "strides: expected 2 of them, one a level, got 1"),
        ({"image": torch.tensor([0, 2])}, "image: expected values from 0 to 1, got 0 to 2"),
        ({"features": {}}, "features: expected a dict of levels, got an empty one"),
        ({"cells": 0}, "cells: expected an integer >= 1, got 0"),
        ({"cells": 1.5}, "cells: expected an integer >= 1, got float"),
        (
            {"features": LEVELS | {"1": torch.zeros(2, 4, 4, 4)}},
            r"features\['1'\]: expected torch.float32 and \(B, C\) \(2, 3\) as features\['0'\], "
            r"got torch.float32 and \(2, 4\)",
        ),
    ],
)
def test_messages_say_what_was_expected_and_what_came(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        pool_pyramid(**{**GOOD, **change})
