"""An extension of griffe: docstrings as this project writes them, in the form that it expects.

``:func:`name``` becomes a link if the name is documented, and ``Example:`` a section of examples.
"""

import re
from typing import Any

import griffe

from handbook.public_names import public_names

ROLE = re.compile(r":(?:class|func|meth|data|attr|mod|exc):`~?([\w.]+)`")
SECTION = re.compile(r"^(\s*)Example:$", re.MULTILINE)
METHODS = re.compile(r"^(\s*)Methods:$", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites every docstring of the library when it is read."""

    def __init__(self) -> None:
        self.documented = {name.where for names in public_names().values() for name in names}

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is not None:
            text = SECTION.sub(r"\1Examples:", obj.docstring.value)
            text = METHODS.sub(r"\1**Methods**\n", text)
            obj.docstring.value = ROLE.sub(lambda found: self._link(obj, found[1]), text)

    def _link(self, obj: griffe.Object, name: str) -> str:
        try:
            where = name if name.startswith("postnms.") else obj.resolve(name)
        except griffe.NameResolutionError:
            return f"`{name}`"
        short = name.removeprefix("postnms.")
        return f"[`{short}`][{where}]" if where in self.documented else f"`{short}`"
