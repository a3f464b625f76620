"""``postnms recipes``: list the named recipes, or show one."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from postnms.cli.console import out, say
from postnms.cli.options import Changes, RecipeName


def list_recipes() -> None:
    """List the named recipes and their purpose."""
    from postnms.recipes import RECIPES, describe

    table = Table("recipe", "what it is", box=None)
    for name in RECIPES:
        table.add_row(name, describe(name).splitlines()[0])
    out.print(table)


def show_recipe(
    name: RecipeName,
    changes: Changes = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="File to write the recipe to, with every field explained: .yaml, .yml or .json.",
        ),
    ] = None,
) -> None:
    """Show all settings of a recipe as JSON, or write them to a file."""
    from postnms.recipes import RECIPES, describe, open_recipe, parse_changes, write_recipe

    recipe = open_recipe(name, parse_changes(changes or []))
    if name in RECIPES:
        # The description goes to stderr, so that the JSON can be piped.
        Console(stderr=True, highlight=False).print(describe(name))
    if file is None:
        out.print_json(recipe.model_dump_json())
        return
    write_recipe(recipe, file)
    say(f"{file}: the recipe, for 'postnms train {shlex.quote(str(file))}'")
