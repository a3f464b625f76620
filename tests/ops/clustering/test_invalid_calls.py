"""Every invalid call of ``cluster_nms`` is a ValueError that begins with the argument's name."""

import decimal
import fractions
import re

import numpy as np
import pytest
import torch

from postnms.ops import cluster_nms
from tests.support.clustering import INSTALLED
from tests.support.odd_tensors import NOT_FLOATING, NOT_INTEGER, never_dense

NAN, INF = float("nan"), float("inf")
GOOD = {
    "boxes": torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 2]]),
    "scores": torch.tensor([0.5, 0.6]),
    "groups": torch.tensor([0, 1]),
}


def with_value(name, place, value):
    changed = GOOD[name].clone()
    changed[place] = value
    return changed


SHAPES = {
    "boxes": [(), (4,), (0,), (2, 5), (2, 3), (2, 0), (1, 2, 4), (4, 2)],
    "scores": [(), (0,), (1,), (3,), (2, 1), (1, 2), (2, 2)],
    "groups": [(), (0,), (1,), (3,), (2, 1), (1, 2)],
}
VALUES = {
    "boxes": [with_value("boxes", (1, i), value) for i in range(4) for value in (NAN, INF, -INF)]
    + [with_value("boxes", (0, 0), 1.5), with_value("boxes", (1, 1), 2.5)],
    "scores": [with_value("scores", i, value) for i in range(2) for value in (NAN, INF, -INF)],
    "groups": [with_value("groups", i, value) for i in range(2) for value in (-1, -(2**63))],
}
THRESHOLDS = [
    None,
    "0.5",
    b"0.5",
    True,
    False,
    0.5j,
    NAN,
    INF,
    -INF,
    -1e-9,
    1.0000001,
    10**400,
    -(10**400),
    [0.5],
    (0.5,),
    {},
    torch.tensor(0.5),
    torch.tensor([0.5, 0.5]),
    np.array(0.5),
    np.array([0.5, 0.5]),
    np.bool_(True),
    np.complex64(0.5),
    np.float32(NAN),
    np.float64(2),
    np.int64(2),
    decimal.Decimal("0.5"),
    fractions.Fraction(1, 2),
    float,
]
NAMES = ["", "CPU", "cuda", "cpu ", 0, 1.5, True, ["cpu"], ("cpu",), b"cpu", {}, torch.tensor(0)]
NAMES += [torch.zeros(2), np.zeros(2), torch.device("cpu"), str]


def calls():
    """All invalid calls: the argument at fault, what is wrong, and the arguments that change."""
    for name, good in GOOD.items():
        odd = never_dense() | ({} if name == "groups" else {"nothing": None})
        for kind, value in odd.items():
            yield name, kind, {name: value}
        for dtype in NOT_INTEGER if name == "groups" else NOT_FLOATING:
            yield name, f"{dtype}", {name: torch.zeros(good.shape, dtype=dtype)}
        for shape in SHAPES[name]:
            yield name, f"{shape}", {name: torch.zeros(shape, dtype=good.dtype)}
        for index, value in enumerate(VALUES[name]):
            yield name, f"value {index}", {name: value}
    # Boxes of a good shape are not at fault, but the column that does not fit them.
    for count in (0, 1, 3):
        yield "scores", f"for {count} boxes", {"boxes": torch.zeros(count, 4)}
    for index, value in enumerate(THRESHOLDS):
        yield "iou_threshold", f"{index}", {"iou_threshold": value}
    for index, value in enumerate(NAMES):
        yield "backend", f"{index}", {"backend": value}


CALLS = {f"{name}: {kind}": (name, change) for name, kind, change in calls()}
OTHERS = [
    {},
    {"groups": None},
    {"iou_threshold": 0},
    *({"backend": name} for name in INSTALLED),
    {"boxes": GOOD["boxes"].double(), "scores": GOOD["scores"].double()},
    {"boxes": torch.nn.Parameter(GOOD["boxes"]), "groups": GOOD["groups"].byte()},
]
"""Valid changes, each of which goes with each invalid one."""


@pytest.mark.parametrize("call", CALLS)
def test_an_invalid_call_names_its_argument(call):
    name, change = CALLS[call]
    for other in OTHERS:
        with pytest.raises(ValueError, match=f"^{name}: .*expected .*got ") as caught:
            cluster_nms(**{**GOOD, **other, **change})
        assert type(caught.value) is ValueError
        assert "\n" not in str(caught.value)


def test_there_are_many_hundred_invalid_calls():
    assert len(CALLS) * len(OTHERS) > 900


@pytest.mark.parametrize(
    "change",
    [
        {"scores": torch.zeros(1)},
        {"scores": torch.zeros(3)},
        {"scores": torch.zeros(2, 1)},
        {"scores": torch.zeros(2, dtype=torch.int64)},
        {"groups": torch.zeros(1, dtype=torch.int64)},
        {"groups": torch.zeros(2)},
        {"boxes": torch.zeros(2, 3)},
        {"boxes": torch.zeros(3, 4)},
        {"boxes": torch.zeros(8)},
        {"iou_threshold": 1.5},
        {"iou_threshold": NAN},
        {"backend": "cuda"},
    ],
)
def test_the_operator_of_torch_checks_too(change):
    """Graphs call the operator itself. It must not read beyond the end of a shorter column."""
    given = {**GOOD, "iou_threshold": 0.5, "backend": "cpu", **change}
    with pytest.raises(ValueError, match=r": expected "):
        torch.ops.postnms.cluster_nms(*given.values())


MESSAGES = [
    ({"boxes": [[0, 0, 1, 1]]}, "boxes: expected a tensor, got list"),
    (
        {"boxes": torch.zeros(2, 5)},
        "boxes: expected float16, bfloat16, float32 or float64 of shape (n, 4), "
        "got torch.float32 of (2, 5)",
    ),
    (
        {"boxes": with_value("boxes", (1, 2), NAN)},
        "boxes: expected finite values, got [0.0, 0.0, nan, 2.0] in row 1",
    ),
    (
        {"boxes": torch.tensor([[0.0, 0, 1, 1], [3, 0, 2, 1]])},
        "boxes: expected x1 <= x2 and y1 <= y2, got [3.0, 0.0, 2.0, 1.0] in row 1",
    ),
    (
        {"scores": torch.zeros(3)},
        "scores: expected float16, bfloat16, float32 or float64 of shape (2,), "
        "got torch.float32 of (3,)",
    ),
    ({"scores": with_value("scores", 1, NAN)}, "scores: expected finite values, got nan in row 1"),
    (
        {"scores": torch.zeros(2, device="meta")},
        "scores: expected a dense tensor, got one on the device meta, which has no values",
    ),
    (
        {"groups": torch.zeros(2)},
        "groups: expected int64 or a smaller integer of shape (2,), got torch.float32 of (2,)",
    ),
    ({"groups": torch.tensor([0, -1])}, "groups: expected values >= 0, got -1"),
    ({"iou_threshold": "0.5"}, "iou_threshold: expected a number in [0, 1], got str"),
    ({"iou_threshold": 1.5}, "iou_threshold: expected a number in [0, 1], got 1.5"),
    (
        {"backend": "cuda"},
        "backend: expected one of reference, eager, cpu, triton or None, got 'cuda'",
    ),
]


@pytest.mark.parametrize(("change", "message"), MESSAGES)
def test_messages_say_what_was_expected_and_what_came(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        cluster_nms(**{**GOOD, **change})
