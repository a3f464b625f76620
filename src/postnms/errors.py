"""The one exception for mistakes that a user can mend, and how its messages show foreign values.

The command line prints such a mistake as one line.
"""

import re
import reprlib
from collections.abc import Sequence
from pathlib import Path

MOST_SHOWN = 80
"""Largest number of characters of a value in a message."""


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Characters that break lines, control a terminal, or cannot be written at all."""


class UserError(ValueError):
    """A file, a recipe or an argument is not as it must be.

    The message says in one line which one, what was expected and what came. Control characters in
    it are written as escapes. ``argument`` is the name of the argument at fault, where it is one:
    the message then begins with it, and the command line puts the name of its own option in its
    place.
    """

    def __init__(self, message: str, *, argument: str | None = None) -> None:
        # Names in files of others may break the line or control a terminal.
        super().__init__(_CONTROL.sub(lambda found: repr(found[0])[1:-1], message))
        self.argument = argument

    def __str__(self) -> str:
        message = super().__str__()
        return message if self.argument is None else f"{self.argument}: {message}"


def shown(value: object) -> str:
    """Return a value of any type for a message: its ``repr``, cut to :data:`MOST_SHOWN` characters.

    Values come from files of others. They may be very long, nest deeply, or hold characters that
    control a terminal, which ``repr`` writes as escapes.

    Example:
        >>> shown([1, "a"]), shown("\\x1b[31m")
        ("[1, 'a']", "'\\\\x1b[31m'")
        >>> shown("a" * 1000)[-10:]
        "aaaaaaaaa'"
    """
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python refuses to write an integer of thousands of digits.
        text = f"<{type(value).__name__} that is too long to show>"
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."


def shown_name(name: str) -> str:
    """Return a name from a file of others for a message: as it is, or as :func:`shown` if odd.

    Odd is a name that is empty, longer than :data:`MOST_SHOWN` characters, or not printable.
    """
    return name if name.isprintable() and 0 < len(name) <= MOST_SHOWN else shown(name)


def shown_path(path: Path) -> str:
    """Return a path from a file of others for a message, without its middle if it is absurd."""
    text = str(path)
    return text if len(text) <= _LONGEST_PATH else f"{text[:60]}...{text[60 - _LONGEST_PATH :]}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first ``most`` names for a message, and how many more there are.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


_LONGEST_PATH = 300
_SHORT = reprlib.Repr()
# Two levels show the form of a value. With more, a nested list could still be long to write.
_SHORT.maxlevel = 2
_SHORT.maxlist = _SHORT.maxtuple = 20
_SHORT.maxdict = 4
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = MOST_SHOWN
