"""``postnms recipes``: list the named recipes, or show one."""

from rich.console import Console
from rich.table import Table

from postnms.cli.console import out
from postnms.cli.options import Changes


def list_recipes() -> None:
    """List the named recipes and their purpose."""
    from postnms.recipes import RECIPES, describe

    table = Table("recipe", "what it is", box=None)
    for name in RECIPES:
        table.add_row(name, describe(name).splitlines()[0])
    out.print(table)


def show_recipe(name: str, changes: Changes = None) -> None:
    """Show all settings of a recipe as JSON."""
    from postnms.recipes import describe, get_recipe, parse_changes

    recipe = get_recipe(name, parse_changes(changes or []))
    # The description goes to stderr, so that the JSON can be piped.
    Console(stderr=True, highlight=False).print(describe(name))
    out.print_json(recipe.model_dump_json())
