"""Calls of ``cluster_nms`` with wrong arguments.

A call is written to a file as JSON: the name of a variant for each argument, see
:data:`VARIANTS`. Arguments that it does not name are valid.
"""

import json
from fractions import Fraction

import numpy as np
import torch

from postnms.ops import cluster_nms
from tests.fuzz.damage import pick
from tests.fuzz.read_data import require

BOXES = torch.tensor(
    [[0.0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10], [0, 2, 10, 12], [41, 1, 50, 10]]
)
SCORES = torch.tensor([0.5, 0.9, 0.5, 0.25, -1.0])
GROUPS = torch.tensor([0, 0, 1, 0, 1])
COUNT = len(SCORES)


def changed(tensor, at, value):
    tensor = tensor.clone()
    tensor.view(-1)[at] = value
    return tensor


def of_any_tensor(tensor):
    """Return variants of a valid tensor in type, shape, dtype, layout and device."""
    dtypes = ("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint64", "float16")
    dtypes += ("bfloat16", "float32", "float64", "complex64", "float8_e4m3fn", "float8_e5m2")
    variants = {name: lambda name=name: tensor.to(getattr(torch, name)) for name in dtypes}
    return variants | {
        "none": lambda: None,
        "list": tensor.tolist,
        "array": tensor.numpy,
        "text": lambda: "boxes",
        "number": lambda: 1.0,
        "scalar": lambda: torch.tensor(1.0),
        "one": lambda: tensor[:1],
        "empty": lambda: tensor[:0],
        "longer": lambda: torch.cat([tensor, tensor]),
        "one dimension more": lambda: tensor[None],
        "column": lambda: tensor.reshape(COUNT, -1, 1),
        "flat": lambda: tensor.reshape(-1),
        "transposed": lambda: tensor.t(),
        "strided": lambda: torch.stack([tensor, tensor], dim=-1)[..., 0],
        "expanded": lambda: tensor[:1].expand(tensor.shape),
        "sparse": tensor.to_sparse,
        "nested": lambda: torch.nested.nested_tensor([tensor.float(), tensor.float()]),
        "jagged": lambda: torch.nested.nested_tensor(
            [tensor.float(), tensor.float()], layout=torch.jagged
        ),
        "meta": lambda: tensor.to("meta"),
        "with gradient": lambda: tensor.float().clone().requires_grad_(),
        "parameter": lambda: torch.nn.Parameter(tensor.float().clone()),
        "negative view": lambda: torch.complex(tensor.float(), -tensor.float()).conj().imag,
        "conjugate": lambda: tensor.to(torch.complex64).conj(),
        "bytes": lambda: tensor.contiguous().reshape(-1).view(torch.uint8),
    }


VARIANTS = {
    "boxes": of_any_tensor(BOXES)
    | {
        "nan": lambda: changed(BOXES, 2, torch.nan),
        "infinite": lambda: changed(BOXES, 7, torch.inf),
        "reversed": lambda: BOXES[:, [2, 3, 0, 1]],
        "huge": lambda: BOXES * 1e37,
        "overflowing": lambda: torch.tensor([[-3e38, -3e38, 3e38, 3e38]] * COUNT),
        "tiny": lambda: BOXES * 1e-44,
        "float64 nan": lambda: changed(BOXES.double(), 0, torch.nan),
        "float64 huge": lambda: BOXES.double() * 1e300,
        "float16 infinite": lambda: changed(BOXES.half(), 3, torch.inf),
        "points": lambda: BOXES[:, [0, 1, 0, 1]],
        "five columns": lambda: torch.cat([BOXES, BOXES[:, :1]], dim=1),
        "three columns": lambda: BOXES[:, :3],
    },
    "scores": of_any_tensor(SCORES)
    | {
        "nan": lambda: changed(SCORES, 0, torch.nan),
        "infinite": lambda: changed(SCORES, 4, -torch.inf),
        "float64 infinite": lambda: changed(SCORES.double(), 4, torch.inf),
        "equal": lambda: torch.zeros(COUNT),
        "signed zeros": lambda: torch.tensor([0.0, -0.0, 0.0, -0.0, 0.0]),
        "huge": lambda: SCORES * 3e38,
    },
    "groups": of_any_tensor(GROUPS)
    | {
        "negative": lambda: changed(GROUPS, 1, -1),
        "least": lambda: changed(GROUPS, 1, -(2**63)),
        "largest": lambda: changed(GROUPS, 1, 2**63 - 1),
        "large": lambda: GROUPS + 2**40,
        "all different": lambda: torch.arange(COUNT),
    },
    "iou_threshold": {
        "none": lambda: None,
        "text": lambda: "0.5",
        "empty text": lambda: "",
        "bytes": lambda: b"0.5",
        "nan": lambda: float("nan"),
        "infinite": lambda: float("inf"),
        "negative": lambda: -0.1,
        "negative zero": lambda: -0.0,
        "above one": lambda: 1.0000001,
        "zero": lambda: 0,
        "one": lambda: 1,
        "true": lambda: True,
        "least": lambda: 5e-324,
        "complex": lambda: 0.5j,
        "list": lambda: [0.5],
        "dict": dict,
        "function": lambda: abs,
        "type": lambda: float,
        "fraction": lambda: Fraction(1, 2),
        "numpy": lambda: np.float32(0.5),
        "array": lambda: np.array([0.5]),
        "two": lambda: np.array([0.5, 0.6]),
        "tensor": lambda: torch.tensor(0.5),
        "tensors": lambda: torch.tensor([0.5, 0.6]),
        "large integer": lambda: 10**400,
    },
    "backend": {
        "reference": lambda: "reference",
        "eager": lambda: "eager",
        "cpu": lambda: "cpu",
        "triton": lambda: "triton",
        "unknown": lambda: "cuda",
        "empty": lambda: "",
        "escapes": lambda: "\x1b[31m\n",
        "long": lambda: "x" * 1000,
        "number": lambda: 0,
        "list": list,
        "dict": dict,
        "bytes": lambda: b"cpu",
        "tensor": lambda: torch.tensor([1, 2]),
        "device": lambda: torch.device("cpu"),
    },
}
"""Makers of valid and invalid values of each argument, by the name of the variant."""


def damage_call(data, rng, others):
    """Choose a variant of one to three arguments."""
    chosen = {
        argument: pick(rng, sorted(VARIANTS[argument]))
        for argument in rng.permutation(sorted(VARIANTS))[: pick(rng, (1, 1, 2, 3))].tolist()
    }
    text = json.dumps({"arguments": chosen})
    return text.encode(), text


def read_call(path, undamaged):
    """Make the call of a file. If it is accepted, it must be valid and the result right."""
    chosen = json.loads(path.read_bytes())["arguments"]
    made = {argument: VARIANTS[argument][name]() for argument, name in chosen.items()}
    arguments = {"boxes": BOXES, "scores": SCORES, "groups": GROUPS, "iou_threshold": 0.5} | made
    keys, assignment = cluster_nms(**arguments)
    boxes, scores, groups = (arguments[name] for name in ("boxes", "scores", "groups"))
    if boxes.device.type == "meta":
        return
    groups = torch.zeros(len(scores), dtype=torch.int64) if groups is None else groups.long()
    require(bool(boxes.isfinite().all() and scores.isfinite().all()), "not finite, and accepted")
    require(bool((boxes[:, :2] <= boxes[:, 2:]).all()), "reversed corners, accepted")
    require(not len(groups) or int(groups.min()) >= 0, "a negative group, accepted")
    require(0 <= float(arguments["iou_threshold"]) <= 1, "a threshold outside [0, 1], accepted")
    wide = torch.float64 if boxes.dtype == torch.float64 else torch.float32
    slow = cluster_nms(
        boxes.detach().to(wide),
        scores.detach().double(),
        groups,
        float(arguments["iou_threshold"]),
        backend="reference",
    )
    require(torch.equal(keys, slow[0]) and torch.equal(assignment, slow[1]), "other clusters")
