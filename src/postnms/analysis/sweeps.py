"""A setting of suppressors over a range of values."""

from collections.abc import Mapping, Sequence

from postnms.config import nearest
from postnms.errors import UserError
from postnms.suppression import Suppressor
from postnms.suppression.registry import full_name, sets_field, with_fields

MOST_VALUES = 1000
"""Of a sweep."""


def sweep(suppressors: Mapping[str, Suppressor], text: str) -> dict[str, Suppressor]:
    """The suppressors, and each that has the field also with every value of ``FIELD=FIRST:LAST:STEP``.

    ``iou`` and ``score`` are short for ``iou_threshold`` and ``score_threshold``. Names that set the field already,
    as of an earlier sweep, stay as they are. Raises UserError for another form, and if no suppressor has the field.
    """
    field, values = _read_sweep(text)
    chosen = {name: rule for name, rule in suppressors.items() if not sets_field(name, field)}
    fields = sorted({name for rule in chosen.values() for name in type(rule).model_fields})
    if field not in fields:
        close = nearest(field, fields)
        raise UserError(
            f"--sweep {text}: none of the suppressors has a field {field!r} that is not set ({close})"
        )
    swept = dict(suppressors)
    for name, rule in chosen.items():
        if field in type(rule).model_fields:
            for value in values:
                swept[f"{name}:{field}={value!r}"] = with_fields(name, rule, {field: value})
    return swept


def _read_sweep(text: str) -> tuple[str, Sequence[int | float]]:
    field, _, bounds = text.partition("=")
    try:
        first, last, step = map(float, bounds.split(":"))
        count = int((last - first) / step + 1 + 1e-9)
    except (ValueError, ZeroDivisionError, OverflowError):
        first, step, count = 0.0, 0.0, 0
    if not 0 < count <= MOST_VALUES or not field or (count > 1 and abs(step) < 1e-9):
        raise UserError(
            f"--sweep {text}: expected FIELD=FIRST:LAST:STEP, for example iou=0.3:0.7:0.05"
        )
    values = [round(first + i * step, 10) for i in range(count)]
    return full_name(field), [int(value) if value.is_integer() else value for value in values]
