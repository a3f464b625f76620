"""The files of the library and their imports, read without importing them."""

import ast
from pathlib import Path

import postnms

SOURCE = Path(postnms.__file__).parent


def modules():
    """Return the path of every source file by its dotted name."""
    named = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imported(path, known):
    """Return the dotted names of the files that a file imports, at its top or in a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            if node.module.split(".")[0] == "postnms":
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                names |= {name if name in known else node.module for name in inner}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.split(".")[0] == "postnms"}
    return names
