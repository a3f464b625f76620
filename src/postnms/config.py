"""The base of every settings class: frozen, strict about names, readable in its errors.

The types of settings and of progress that all rooms share are here too.
"""

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from postnms.errors import UserError, listed, shown, shown_name

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""
Positive = Annotated[int, Field(gt=0)]
"""A whole number above 0."""
Progress = Callable[[int], None]
"""Called by a long-running function with the number of steps finished since the last call."""

MOST_NAMES = 16
"""Largest number of valid names that a message lists."""
_LONGEST = 400
"""Length of a message in characters from which on further mistakes are only counted."""
MOST_MISTAKES = 3
"""Largest number of mistakes that one message names."""

Lines = Callable[[Sequence[str]], int]
"""Gives the line of a file that a value stands in, by the path to the value."""


@dataclass(frozen=True)
class _Place:
    """Where values come from: the name of the settings, and the lines of a file if it is one."""

    name: str
    lines: Lines | None

    def of(self, path: Sequence[str]) -> str:
        """Return how a message calls the value at a path."""
        if self.lines is None:
            return ".".join([self.name, *map(shown_name, path)])
        where = f"{self.name}, line {self.lines(path)}"
        return f"{where}: {'.'.join(map(shown_name, path))}" if path else where


def no_progress(steps: int) -> None:
    """Do nothing: the default of every ``done`` argument."""


def as_python(value: Any) -> Any:
    """Return a value with the numbers and arrays of numpy in it as numbers and tuples of Python.

    Dicts, lists and tuples are looked into. Anything else is returned as it is.

    Example:
        >>> import numpy as np
        >>> from postnms.config import as_python
        >>> as_python({"iou": np.float32(0.5), "weights": np.array([1, 2])})
        {'iou': 0.5, 'weights': (1, 2)}
    """
    if isinstance(value, np.ndarray):
        return as_python(tuple(value) if value.ndim else value[()])
    for kind, plain in ((np.bool_, bool), (np.integer, int), (np.floating, float)):
        if isinstance(value, kind):
            return plain(value)
    if isinstance(value, dict):
        return {key: as_python(part) for key, part in value.items()}
    return type(value)(map(as_python, value)) if type(value) in (list, tuple) else value


class Config(BaseModel):
    """Immutable settings. An unknown field or a value of a wrong type is an error.

    Numbers of numpy count as those of Python.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**as_python(values))

    # pydantic then validates JSON without this method, so that a list may stand for a tuple.
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]

    @classmethod
    def training_only(cls) -> frozenset[str]:
        """Return the names of the fields that training alone reads."""
        return frozenset()

    @classmethod
    def parse(cls, values: dict[str, Any], name: str, lines: Lines | None = None) -> Self:
        """Build the settings from values that JSON can hold, and from those of numpy.

        ``name`` is how the user calls these settings, and ``lines`` gives the line of each value
        where they come from a file. Raises UserError that names every mistake, or the first
        :data:`MOST_MISTAKES` of many.
        """
        place = _Place(name, lines)
        try:  # By way of JSON, where a list may stand for a tuple.
            plain = as_python(values)
            _check_plain(plain, place)
            return cls.model_validate_json(json.dumps(plain))
        except RecursionError as error:
            raise UserError(f"{name}: nests too deeply") from error
        except ValidationError as error:
            mistakes = error.errors(include_url=False)
            named: list[str] = []
            for mistake in mistakes[:MOST_MISTAKES]:
                text = _explain(cls, place, mistake)
                if named and len("; ".join([*named, text])) > _LONGEST:
                    break
                named.append(text)
            if len(mistakes) > len(named):
                named.append(f"and {len(mistakes) - len(named)} more mistakes")
            raise UserError("; ".join(named)) from error


def json_or_text(value: str) -> Any:
    """Return the value that a user wrote: parsed as JSON where it is JSON, else as a string."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def nearest(wrong: str, valid: list[str]) -> str:
    """Return ``did you mean 'x'?``, or a list of the valid names if none is similar."""
    close = difflib.get_close_matches(wrong.lower(), valid, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"valid: {listed(sorted(valid), MOST_NAMES)}"


def _check_plain(value: Any, place: _Place, path: tuple[str, ...] = ()) -> None:
    """Raise UserError if a value is nothing that JSON holds, or an integer of over 64 bits.

    JSON has integers of any length, but no setting is larger, and they overflow where they are
    used. ``path`` leads to the value. Dicts, lists and tuples are looked into.
    """
    if isinstance(value, dict):
        for key, part in value.items():
            _check_plain(part, place, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            _check_plain(part, place, (*path, str(index)))
    elif value is not None and not isinstance(value, str | int | float):
        came = type(value).__name__
        raise UserError(f"{place.of(path)}: expected a number, a text or a list, got {came}")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        where = place.of(path)
        raise UserError(f"{where}: expected an integer of at most 64 bits, got {shown(value)}")


def _explain(config: type[BaseModel], place: _Place, mistake: Any) -> str:
    path, fields = _resolve(config, mistake["loc"])
    where = place.of(path)
    if mistake["type"] == "extra_forbidden":
        return f"{where}: no such field ({nearest(path[-1], fields)})"
    if mistake["type"] == "union_tag_invalid":
        context = mistake["ctx"]
        kind = context["discriminator"].strip("'")
        tags = context["expected_tags"]
        where = place.of([*path, kind])
        return f"{where}: expected one of {tags}, got {shown(context['tag'])}"
    if mistake["type"] == "union_tag_not_found":
        return f"{where}: expected a field {mistake['ctx']['discriminator']} that says which"
    if mistake["type"] == "value_error":  # Raised by this library; its message says what came.
        return f"{where}: {mistake['ctx']['error']}"
    message = f"{where}: {mistake['msg'][0].lower()}{mistake['msg'][1:]}"
    if mistake["type"] == "json_invalid":
        # What came is the text of all settings, whose beginning would not show the mistake.
        return message
    return f"{message}, got {shown(mistake['input'])}"


def _resolve(config: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """Return the path to a mistake without the tags of unions, and the valid fields at its end."""
    path: list[str] = []
    options: list[type[BaseModel]] = [config]
    # pydantic marks a mistake in the key of an object by a last part "[key]".
    for part in map(str, loc[:-1] if loc[-1:] == ("[key]",) else loc):
        # It also puts the tag of a union into the path. It is no field that the user wrote.
        tagged = [
            option for option in options if "kind" in option.model_fields and _kind(option) == part
        ]
        if len(options) > 1 and tagged:
            options = tagged
            continue
        path.append(part)
        fields = [
            option.model_fields[part].annotation
            for option in options
            if part in option.model_fields
        ]
        inside = [kind for field in fields for kind in getattr(field, "__args__", (field,))]
        models = [kind for kind in inside if isinstance(kind, type) and issubclass(kind, BaseModel)]
        options = models or options
    return path, [name for option in options for name in option.model_fields]


def _kind(option: type[BaseModel]) -> object:
    return option.model_fields["kind"].default
