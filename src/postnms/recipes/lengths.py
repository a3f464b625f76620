"""Lengths of a training run, in iterations or in epochs."""

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import BeforeValidator

from postnms.errors import shown

_EPOCHS = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*epochs?\s*")


def _check(least: int) -> Callable[[object], object]:
    """Return the check of a length whose smallest number of iterations is ``least``."""

    def check(length: object) -> object:
        if type(length) is int and length >= least:
            return length
        if isinstance(length, str) and _EPOCHS.fullmatch(length) and _epochs(length):
            return length
        raise ValueError(
            f"expected a number of iterations from {least} on or a text such as '20 epochs', "
            f"got {shown(length)}"
        )

    return check


Length = Annotated[int | str, BeforeValidator(_check(1))]
"""A number of iterations of at least 1, or a text such as ``20 epochs`` or ``0.5 epochs``."""
LengthOrNone = Annotated[int | str, BeforeValidator(_check(0))]
"""A number of iterations, which may be 0, or a text such as ``1 epoch``."""


def in_iterations(length: int | str, per_epoch: int) -> int:
    """Return a length in iterations. One in epochs is rounded, and it is at least 1.

    ``per_epoch`` is the number of iterations of an epoch.

    Example:
        >>> in_iterations("1.5 epochs", 10), in_iterations(7, 10)
        (15, 7)
    """
    if isinstance(length, int):
        return length
    return max(round(_epochs(length) * per_epoch), 1)


def _epochs(length: str) -> float:
    """Return the number of epochs in a text that :data:`Length` allows."""
    found = _EPOCHS.fullmatch(length)
    assert found is not None  # the settings have checked it
    return float(found[1])
