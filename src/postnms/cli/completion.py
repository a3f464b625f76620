"""Names that the shell completes, read from the source so that a press of Tab is fast.

Importing the recipes or the suppressors loads torch, which takes seconds.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

_SOURCE = Path(__file__).parents[1]


def recipe_names(incomplete: str) -> list[str]:
    """Return the named recipes that begin with a text."""
    return [name for name in _entries("recipes/named.py", "RECIPES") if name.startswith(incomplete)]


def suppressor_names(incomplete: str) -> list[str]:
    """Return the lists of suppressors that continue one: what is after its last comma counts."""
    before, comma, last = incomplete.rpartition(",")
    names = _entries("suppression/registry.py", "SUPPRESSORS")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


def _entries(file: str, registry: str) -> Iterator[str]:
    """Yield the names in a dict literal, or in the tuple of functions that a dict is made from."""
    for node in ast.parse((_SOURCE / file).read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.AnnAssign) or ast.unparse(node.target) != registry:
            continue
        if isinstance(node.value, ast.Dict):
            yield from (str(key.value) for key in node.value.keys if isinstance(key, ast.Constant))
        elif isinstance(node.value, ast.DictComp):
            functions = node.value.generators[0].iter
            assert isinstance(functions, ast.Tuple)
            yield from (ast.unparse(function) for function in functions.elts)
