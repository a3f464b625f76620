"""A recipe as a YAML file in which a comment explains every field."""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from postnms.config import Config
from postnms.errors import UserError
from postnms.files.atomic import write_text
from postnms.recipes.config import Recipe
from postnms.recipes.files import ENDINGS

_WIDTH = 100
_ROLE = re.compile(r":\w+:`~?([^`]*)`")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_NO_TEXT = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
"""Words that readers of YAML take for other values than texts."""


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe to a new file: YAML with a comment on every field, or plain JSON.

    The name of the recipe is not written: that of the file takes its place.

    Raises:
        UserError: the ending is none of a recipe file, there is a file of this name already, or
            the operating system refuses.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(
            f"{path}: expected a name that ends in {', '.join(ENDINGS)}", argument="out"
        )
    if path.exists():
        raise UserError(f"{path}: is there already; name another file", argument="out")
    if path.suffix.lower() == ".json":
        text = json.dumps(recipe.model_dump(mode="json", exclude={"name"}), indent=2) + "\n"
    else:
        text = explain(recipe)
    write_text(path, text)


def explain(recipe: Recipe) -> str:
    """Return a recipe as YAML, with the explanation of every field in a comment above it.

    The name of the recipe is left out, since that of a file takes its place.
    """
    head = [
        *_comment(
            f"A recipe of postnms, made from {recipe.name}."
            if recipe.name
            else "A recipe of postnms.",
            0,
        ),
        "# postnms train THIS_FILE --data FOLDER --out runs/mine",
        *_comment(
            "A field that is left out has the default of its class. A file may also hold nothing "
            "but 'base: NAME' and the fields that differ from that named recipe.",
            0,
        ),
    ]
    return "\n".join([*head, *_section(recipe, 0)]) + "\n"


def explanation(config: type[Config], field: str) -> str:
    """Return what a field of a config means, in plain text. Empty: it has no docstring."""
    text = _docstrings(config).get(field, "")
    if field == "kind":
        text = "Which kind this is. The fields below are those of this kind."
    options = config.model_fields[field].annotation
    if get_origin(options) is Literal and len(values := get_args(options)) > 1:
        text += f" Values: {', '.join(map(str, values))}."
    text = _ROLE.sub(lambda found: found[1].rpartition(".")[2], text)
    text = re.sub(r"\bNone\b", "null", re.sub(r"\bTrue\b", "true", text))
    return " ".join(text.replace("``", "").split())


@cache
def _docstrings(config: type[Config]) -> dict[str, str]:
    """Return the docstrings of the fields of a config: the texts below them in its source."""
    found: dict[str, str] = {}
    for parent in reversed(config.__mro__):
        if not issubclass(parent, Config) or parent is Config:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(parent))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = below.value if isinstance(below, ast.Expr) else None
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found[field.target.id] = text.value
    return found


def _section(config: Config, level: int) -> Iterator[str]:
    """Yield the lines of a config and of the configs in it."""
    indent = "  " * level
    values = config.model_dump(mode="json")
    names = sorted(type(config).model_fields, key=lambda name: name != "kind")
    for number, name in enumerate(names):
        if not level and name == "name":
            continue
        value = getattr(config, name)
        if number or not level:
            yield ""
        about = explanation(type(config), name)
        if isinstance(value, Config):
            purpose = inspect.cleandoc(type(value).__doc__ or "").partition("\n\n")[0]
            yield from _comment(about or " ".join(purpose.split()), level)
            yield f"{indent}{name}:"
            yield from _section(value, level + 1)
        else:
            yield from _comment(about, level)
            yield f"{indent}{name}: {_text(values[name])}"


def _comment(text: str, level: int) -> list[str]:
    indent = "  " * level + "# "
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _text(value: Any) -> str:
    """Return a value in one line of YAML that readers of YAML 1.1 and of YAML 1.2 agree on."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _NO_TEXT:
            return value
        return json.dumps(value, ensure_ascii=not value.isprintable())
    if isinstance(value, float):
        # YAML 1.1 reads 1e-05 as a text: its numbers have a dot.
        digits, exponent, power = repr(value).partition("e")
        return f"{digits}{'' if '.' in digits else '.0'}{exponent}{power}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(key)}: {_text(part)}' for key, part in value.items())}}}"
    return json.dumps(value)
