"""What is public: the names that ``postnms`` and its folders export, as they say it themselves."""

import ast
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = "postnms"
COMMAND_LINE = f"{ROOT}.cli"
"""Its face is the command line, which has a page of its own."""


@dataclass(frozen=True)
class PublicName:
    """A name of a face of the library, and where it is documented."""

    face: str
    """The package that exports it, such as ``postnms.stage``."""
    name: str
    where: str
    """Dotted path of its definition, such as ``postnms.stage.config.StageConfig``."""
    page: str
    """The face on whose page it is documented: the deepest one that exports it."""
    summary: str
    """First paragraph of its docstring."""


def faces() -> list[str]:
    """Return the packages that say what is public: those with names in ``__all__``."""
    root = importlib.import_module(ROOT)
    folders = [f"{ROOT}.{module.name}" for module in pkgutil.iter_modules(root.__path__)]
    candidates = [ROOT, *sorted({*folders} - {COMMAND_LINE, f"{ROOT}.__main__"})]
    return [name for name in candidates if getattr(importlib.import_module(name), "__all__", ())]


def public_names() -> dict[str, list[PublicName]]:
    """Return the public names of each face in alphabetical order."""
    exported = {face: importlib.import_module(face).__all__ for face in faces()}
    return {
        face: [_public_name(face, name, exported) for name in sorted(names, key=str.lower)]
        for face, names in exported.items()
    }


def _public_name(face: str, name: str, exported: Mapping[str, list[str]]) -> PublicName:
    where, text = _definition(face, name)
    same = [
        other
        for other, names in exported.items()
        if name in names and _definition(other, name)[0] == where
    ]
    deepest = [other for other in same if other != ROOT] or [ROOT]
    inside = [other for other in deepest if where.startswith(f"{other}.")]
    summary = " ".join(text.strip().split("\n\n")[0].split())
    return PublicName(face, name, where, (inside or deepest)[0], summary)


@cache
def _definition(module: str, name: str) -> tuple[str, str]:
    """Return the dotted path of the definition of a name of a module, and its docstring."""
    body = _body(module)
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    start = f"{module}." if node.level else ""
                    return _definition(f"{start}{node.module}", alias.name)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return f"{module}.{name}", ast.get_docstring(node) or ""
        elif name in _assigned(node):
            text = after.value if isinstance(after, ast.Expr) else None
            text = text.value if isinstance(text, ast.Constant) else ""
            return f"{module}.{name}", str(text)
    raise LookupError(f"{module}.{name}: not in the file of the module")


@cache
def _body(module: str) -> list[ast.stmt]:
    """Return the statements of a module, of its stub if there is one."""
    file = Path(str(importlib.import_module(module).__file__))
    stub = file.with_suffix(".pyi")
    return ast.parse((stub if stub.is_file() else file).read_text(encoding="utf-8")).body


def _assigned(node: ast.stmt) -> set[str]:
    """Return the names that a statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}
