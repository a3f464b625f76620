"""Files that a verb writes: what they may replace."""

from collections.abc import Callable
from pathlib import Path

from postnms.errors import UserError


def check_replaces(file: Path, read: Callable[[Path], object], kind: str) -> None:
    """Refuse to replace a file of another kind, such as an input or the weights of a run."""
    if not file.exists():
        return
    try:
        read(file)
    except UserError as error:
        raise UserError(
            f"{file}: is there and is no {kind}; name another", argument="out"
        ) from error
