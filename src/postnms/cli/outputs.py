"""Files that a verb writes: what they may replace."""

from collections.abc import Callable
from pathlib import Path

from postnms.errors import UserError


def check_replaces(
    file: Path, read: Callable[[Path], object], kind: str, argument: str = "out"
) -> None:
    """Refuse to replace a file of another kind, such as an input or the weights of a run.

    ``read`` raises UserError for a file that is not of the ``kind``. ``argument`` is the argument
    that names the file.
    """
    if not file.exists():
        return
    try:
        read(file)
    except UserError as error:
        raise UserError(
            f"{file}: is there and is no {kind}; name another", argument=argument
        ) from error
