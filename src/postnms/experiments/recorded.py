"""What lies beside a record, so that a page can be made without the run.

The record ``ARM_SEED.json`` has the figures of a run. ``ARM_SEED.safetensors`` has AP of its rows
on drawn val images, which the intervals need, and the placement of its clusters.

R: resamples.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from postnms.analysis.placement import ClusterIoUs
from postnms.errors import UserError
from postnms.evaluation.results import Figures
from postnms.files.atomic import write_json
from postnms.files.json_files import read_json
from postnms.files.tensor_files import load_tensors, save_tensors

_STEPS = 100
"""AP of a resample is kept in hundredths of a per cent."""
_UNDEFINED = -1
"""Stands for the AP of images without an object."""
_ROW, _BEFORE, _AFTER = "row/", "before/", "after/"
"""What the names of tensors begin with: AP of a row, and IoUs of clusters."""


@dataclass(frozen=True)
class ValSet:
    """The val images of a run."""

    digest: str
    """A hash of the images and of the numbers of all objects."""
    images: int
    objects: int
    """Number of objects that are no crowds."""
    classes: int


@dataclass(frozen=True)
class Recorded:
    """The record of a run, with what lies beside it."""

    content: Mapping[str, Any]
    """The record itself."""
    val: ValSet
    further: Mapping[str, Figures]
    """By row, the figures of rescorers and of evaluations."""
    drawn: Mapping[str, NDArray[np.float64]]
    """By row, (R,) AP on the images of each resample, in per cent. NaN: they have no object."""
    placement: tuple[ClusterIoUs, ClusterIoUs | None] | None
    """IoUs of the clusters before and after the stage. None: the experiment does not ask for
    them, or the run had no candidates."""


def write_recorded(path: Path, recorded: Recorded) -> None:
    """Write a record, the JSON file ``path``, and what lies beside it.

    Raises UserError if the operating system refuses.
    """
    tensors = {_ROW + row: _pack(drawn) for row, drawn in recorded.drawn.items()}
    sides = recorded.placement or (None, None)
    for prefix, side in zip((_BEFORE, _AFTER), sides, strict=True):
        if side is not None:
            tensors |= {prefix + name: getattr(side, name) for name in _names()}
    save_tensors(beside(path), tensors, {"run": path.stem})
    content = {"val": asdict(recorded.val), "further": dict(recorded.further)}
    write_json(path, {**recorded.content, **content})


def read_recorded(path: Path) -> Recorded:
    """Read what :func:`write_recorded` wrote to ``path``.

    Raises:
        UserError: a file is missing, damaged or has another form, or the record is of a version
            that wrote nothing beside it. The message names the file.
    """
    content = read_json(path)
    try:
        val = ValSet(**content["val"])
        further = dict(content["further"])
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: expected a record with val and further, got another file or an older record; "
            "its run has to be trained again"
        ) from error
    tensors, _ = load_tensors(beside(path))
    drawn = {name[len(_ROW) :]: _unpack(t) for name, t in tensors.items() if name.startswith(_ROW)}
    before, after = (_side(tensors, prefix) for prefix in (_BEFORE, _AFTER))
    return Recorded(content, val, further, drawn, None if before is None else (before, after))


def as_kept(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return AP (R,) of resamples as a record keeps it, which is what intervals are made from."""
    return _unpack(_pack(drawn))


def beside(path: Path) -> Path:
    """Return the file that lies beside a record."""
    return path.with_suffix(".safetensors")


def check_beside(path: Path) -> None:
    """Raise UserError if :func:`write_recorded` would replace a file that it has not written."""
    file = beside(path)
    if not file.exists():
        return
    try:
        of_run = load_tensors(file)[1].get("run")
    except UserError:
        of_run = None
    if of_run != path.stem:
        raise UserError(
            f"{file}: is there and lies beside no record; name another page", argument="page"
        )


def _pack(drawn: NDArray[np.float64]) -> torch.Tensor:
    steps = np.where(np.isnan(drawn), _UNDEFINED, np.round(drawn * _STEPS))
    return torch.from_numpy(steps.astype(np.int16))


def _unpack(steps: torch.Tensor) -> NDArray[np.float64]:
    values = steps.numpy().astype(np.float64)
    return np.where(values == _UNDEFINED, np.nan, values / _STEPS)


def _side(tensors: Mapping[str, torch.Tensor], prefix: str) -> ClusterIoUs | None:
    names = _names()
    if any(prefix + name not in tensors for name in names):
        return None
    return ClusterIoUs(**{name: tensors[prefix + name] for name in names})


def _names() -> list[str]:
    return list(ClusterIoUs.__dataclass_fields__)
