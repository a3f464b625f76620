"""The base of every config: frozen, strict about names, readable in its errors."""

import difflib
import json
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from postnms.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class Config(BaseModel):
    """Immutable settings. An unknown field or a value of a wrong type is an error, never ignored."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def parse(cls, values: dict[str, Any], name: str) -> Self:
        """Build from JSON-able values; ``name`` is what a user calls the whole. UserError names every mistake."""
        try:  # from JSON, where a list may stand for a tuple
            return cls.model_validate_json(json.dumps(values))
        except ValidationError as error:
            lines = [_explain(cls, name, mistake) for mistake in error.errors(include_url=False)]
            raise UserError("; ".join(lines)) from error


def json_or_text(value: str) -> Any:
    """What a user wrote as a value: JSON, or if it is none a string."""
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def nearest(wrong: str, valid: list[str]) -> str:
    """`` (did you mean 'x'?)`` or the list of what is valid."""
    close = difflib.get_close_matches(wrong, valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(sorted(valid))}"


def _explain(config: type[BaseModel], name: str, mistake: Any) -> str:
    path, fields = _resolve(config, mistake["loc"])
    where = ".".join([name, *path])
    if mistake["type"] == "extra_forbidden":
        return f"{where}: no such field ({nearest(path[-1], fields)})"
    if mistake["type"] == "union_tag_invalid":
        context = mistake["ctx"]
        kind = context["discriminator"].strip("'")
        return f"{where}.{kind}: expected one of {context['expected_tags']}, got {context['tag']!r}"
    if mistake["type"] == "union_tag_not_found":
        return f"{where}: expected a field {mistake['ctx']['discriminator']} that says which"
    if mistake["type"] == "value_error":  # our own words, which say what came
        return f"{where}: {mistake['ctx']['error']}"
    return f"{where}: {mistake['msg'][0].lower()}{mistake['msg'][1:]}, got {mistake['input']!r}"


def _resolve(config: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """The path to a mistake without the tags of unions, and the fields that are valid at its end."""
    path: list[str] = []
    options: list[type[BaseModel]] = [config]
    for part in map(str, loc):
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
        options = [
            kind for kind in inside if isinstance(kind, type) and issubclass(kind, BaseModel)
        ] or options
    return path, [name for option in options for name in option.model_fields]


def _kind(option: type[BaseModel]) -> object:
    return option.model_fields["kind"].default
