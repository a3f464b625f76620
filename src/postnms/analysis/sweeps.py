"""One setting of suppressors over a range of values."""

from collections.abc import Sequence

from postnms.config import nearest
from postnms.errors import UserError
from postnms.suppression import Choice
from postnms.suppression.registry import full_name

MOST_VALUES = 1000
"""Largest number of values of one sweep."""


def sweep(choices: Sequence[Choice], text: str) -> list[Choice]:
    """Add every value of ``FIELD=FIRST:LAST:STEP`` to the suppressors that have the field.

    ``iou`` and ``score`` are short for ``iou_threshold`` and ``score_threshold``. Choices that set
    the field already, for example by an earlier sweep, are not swept again, and neither are those
    whose other settings leave it without effect. Raises UserError if the text has another form,
    and if no suppressor has the field.

    Returns the choices as given, followed by the swept ones.
    """
    field, values = _read_sweep(text)
    free = [choice for choice in choices if field not in choice.settings]
    fields = sorted({name for choice in free for name in _effective_fields(choice)})
    if field not in fields:
        raise UserError(
            f"{text}: none of the suppressors has a field {field!r} that is not set "
            f"({nearest(field, fields)})",
            argument="sweep",
        )
    swept = [
        choice.with_setting(field, value)
        for choice in free
        if field in _effective_fields(choice)
        for value in values
    ]
    return [*choices, *swept]


def _effective_fields(choice: Choice) -> list[str]:
    idle = choice.suppressor.idle_fields()
    return [name for name in type(choice.suppressor).model_fields if name not in idle]


def _read_sweep(text: str) -> tuple[str, Sequence[int | float]]:
    """Return the full name of the field and its values."""
    field, _, bounds = text.partition("=")
    try:
        first, last, step = map(float, bounds.split(":"))
        # The last value counts although steps such as 0.1 are not exact.
        count = int((last - first) / step + 1 + 1e-9)
    except (ValueError, ZeroDivisionError, OverflowError):
        first, step, count = 0.0, 0.0, 0
    if not 0 < count <= MOST_VALUES or not field or (count > 1 and abs(step) < 1e-9):
        raise UserError(
            f"{text}: expected FIELD=FIRST:LAST:STEP, for example iou=0.3:0.7:0.05",
            argument="sweep",
        )
    values = [round(first + i * step, 10) for i in range(count)]
    return full_name(field), [int(value) if value.is_integer() else value for value in values]
