"""Recipes in files that users write, in YAML or JSON.

A file holds a whole recipe, or ``base: NAME`` and what differs from that named recipe.
``postnms recipes show NAME --out FILE`` writes a whole one.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from postnms.config import nearest
from postnms.errors import UserError, shown
from postnms.files.yaml_settings import line_of, read_yaml
from postnms.recipes.config import Recipe, override
from postnms.recipes.named import RECIPES, get_recipe

ENDINGS = (".yaml", ".yml", ".json")
"""Endings of the names of recipe files."""


def open_recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Return a named recipe or that of a file, with other values of some fields.

    Args:
        name: the name of a recipe, or the path of a file. A text is a path if it is no name of a
            recipe and ends as a recipe file does, has a separator of folders, or is that of a file.
        changes: the values by their dotted paths, as :func:`postnms.recipes.override` takes them.

    Raises:
        UserError: there is no such recipe or file, the file does not hold a recipe, or a path or a
            value does not fit.

    Example:
        >>> from postnms.recipes import open_recipe
        >>> open_recipe("demo", {"training.iterations": 20}).training.iterations
        20
    """
    if not is_recipe_file(name):
        return get_recipe(name, changes)
    return override(read_recipe_file(Path(name)), changes or {})


def is_recipe_file(name: str) -> bool:
    """Return whether the name of a recipe, as a user gives it, is the path of a file."""
    if name in RECIPES:
        return False
    path = Path(name)
    return path.suffix.lower() in ENDINGS or len(path.parts) > 1 or path.is_file()


def read_recipe_file(path: Path) -> Recipe:
    """Read a recipe from a YAML or JSON file.

    Its name is that of the file without the ending, unless the file has a field ``name``. With
    ``base: NAME``, fields that the file leaves out are those of the named recipe. A section is
    merged field by field, except where it becomes another kind of detector. A list is replaced.

    Raises:
        UserError: the file cannot be read or does not hold a recipe. The message begins with the
            path and the line.
    """
    if path.is_dir():
        raise UserError(f"{path}: expected a recipe file, got a folder; --resume continues a run")
    if not path.exists():
        raise UserError(f"{path}: no such recipe file")
    file = read_yaml(path)
    values = {"name": path.stem, **file.values}
    if "base" in values:
        base = values.pop("base")
        if not isinstance(base, str) or base not in RECIPES:
            hint = f" ({nearest(base, list(RECIPES))})" if isinstance(base, str) else ""
            line = line_of(file.lines, ("base",))
            raise UserError(
                f"{path}, line {line}: base: expected the name of a recipe, got {shown(base)}{hint}"
            )
        values = _merge(get_recipe(base).model_dump(mode="json"), values)
    return Recipe.parse(values, str(path), partial(line_of, file.lines))


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return nested values with changes. What the changes do not name stays as it is."""
    if changes.get("kind", base.get("kind")) != base.get("kind"):
        return changes  # The fields of another kind are others.
    merged = dict(base)
    for name, value in changes.items():
        before = base.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            value = _merge(before, value)
        merged[name] = value
    return merged
