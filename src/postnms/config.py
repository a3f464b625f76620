"""The base of every config: frozen, strict about names, readable in its errors."""

import difflib
import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from postnms.errors import UserError


class Config(BaseModel):
    """Immutable settings. An unknown field or a value of a wrong type is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: dict[str, Any], name: str) -> Self:
        """Build from JSON-able values; ``name`` is what a user calls the whole. UserError names every mistake."""
        try:  # from JSON, where a list may stand for a tuple
            return cls.model_validate_json(json.dumps(values))
        except ValidationError as error:
            lines = [_explain(cls, name, mistake) for mistake in error.errors(include_url=False)]
            raise UserError("; ".join(lines)) from error


def nearest(wrong: str, valid: list[str]) -> str:
    """`` (did you mean 'x'?)`` or the list of what is valid."""
    close = difflib.get_close_matches(wrong, valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(sorted(valid))}"


def _explain(config: type[BaseModel], name: str, mistake: Any) -> str:
    path = [str(part) for part in mistake["loc"]]
    where = ".".join([name, *path])
    if mistake["type"] == "extra_forbidden":
        return f"{where}: no such field ({nearest(path[-1], _fields_at(config, path[:-1]))})"
    return f"{where}: {mistake['msg'][0].lower()}{mistake['msg'][1:]}, got {mistake['input']!r}"


def _fields_at(config: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        if (field := config.model_fields.get(part)) is None:
            continue  # the tag of a union stands in the path and is no field
        options = getattr(field.annotation, "__args__", (field.annotation,))
        config = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), config)
    return list(config.model_fields)
